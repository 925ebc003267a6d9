import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createTable, drawFacts, type Terminal } from '../../src/cli/output/table.ts';
import { progressLine } from '../../src/cli/watching/progress.ts';
import type { JobView } from '../../src/projections/jobs/queries.ts';

beforeEach(() => vi.stubEnv('NO_COLOR', ''));
afterEach(() => vi.unstubAllEnvs());

function screen(columns?: number) {
  let text = '';
  const terminal: Terminal = {
    ...(columns === undefined ? {} : { isTTY: true, columns }),
    write: (more) => (text += more),
  };
  return { terminal, lines: () => text.trimEnd().split('\n') };
}

type Row = { id: string; status: string; error: string };
const columns = [
  { title: 'ID', of: ({ id }: Row) => id },
  { title: 'STATUS', of: ({ status }: Row) => status, colour: () => 'red' as const },
  { title: 'ERROR', of: ({ error }: Row) => error, cut: true as const },
];
const rows = [
  {
    id: 'job-1',
    status: 'failed',
    error: 'a message that is far too long for the line that it is to stand in',
  },
  { id: 'job-22', status: 'succeeded', error: '' },
];
const plain = stripVTControlCharacters;

test('on a terminal lines are aligned, coloured, and no longer than it is wide; an id is never cut', () => {
  const { terminal, lines } = screen(40);
  createTable(columns, terminal).draw(rows);
  expect(lines().map(plain)).toEqual([
    'ID      STATUS     ERROR',
    'job-1   failed     a message that is fa…',
    'job-22  succeeded',
  ]);
  expect(lines()[1]).toContain('\x1b[31mfailed\x1b[39m');
  const narrow = screen(10);
  createTable(columns, narrow.terminal).draw(rows);
  expect(plain(narrow.lines()[2] ?? '')).toContain('job-22');
});

test('colours are left out where NO_COLOR is set, and where nobody looks; then nothing is cut either', () => {
  vi.stubEnv('NO_COLOR', '1');
  const looking = screen(40);
  createTable(columns, looking.terminal).draw(rows);
  const piped = screen();
  vi.stubEnv('NO_COLOR', '');
  createTable(columns, piped.terminal).draw(rows);
  for (const { lines } of [looking, piped]) expect(lines().join()).not.toContain('\x1b');
  expect(piped.lines()[1]).toContain('to stand in');
});

test('further pages stand below the first', () => {
  const { terminal, lines } = screen(60);
  const table = createTable(columns, terminal);
  table.draw([rows[1] ?? rows[0]].filter((row) => row !== undefined));
  table.draw([{ id: 'job-3', status: 'failed', error: 'x' }]);
  expect(lines().map(plain)).toEqual([
    'ID      STATUS     ERROR',
    'job-22  succeeded',
    'job-3   failed     x',
  ]);
});

test('what a handler threw does not move the cursor, colour the screen or turn it around', () => {
  const { terminal, lines } = screen(80);
  const error = 'gone\x1b[2J\x1b]0;title\x07 \u009b31mred\r\nnext\u202eback';
  createTable(columns, terminal).draw([{ id: 'job-1', status: 'failed', error }]);
  drawFacts([['error', error]], terminal);
  expect(lines().map(plain).join('')).not.toMatch(/[\p{Cc}\u202e]/u);
});

const job: JobView = {
  id: 'job-1',
  type: 'export',
  queue: 'exports',
  priority: 'normal',
  status: 'running',
  attempts: 1,
  progress: 50,
  createdAt: '2026-11-20T21:47:00.000Z',
  dueAt: '2026-11-20T21:47:00.000Z',
  startedAt: '2026-11-20T21:47:10.000Z',
  version: 3,
};

test.each([
  [{}, 70, 'export  ███████████░░░░░░░░░░░   50 %  running  20 s, about 20 s left'],
  [{ attempts: 3 }, 30, ' 50 %  running, attempt 3  20'],
  [
    { status: 'scheduled', progress: 0, dueAt: '2026-11-20T21:49:30.000Z' },
    50,
    'export  ░░░░░░░░░░░░░    0 %  scheduled  in 2 min',
  ],
  [
    { status: 'succeeded', progress: 100, finishedAt: '2026-11-20T21:47:15.000Z' },
    50,
    'export  ██████████████████  100 %  succeeded  5 s',
  ],
] as const)('a job %j on %i columns is drawn as %j', (more, width, expected) => {
  const line = plain(
    progressLine({ ...job, ...more }, screen(width).terminal, Date.parse('2026-11-20T21:47:30.000Z')),
  );
  expect(line.length).toBeLessThan(width);
  expect(line).toBe(expected);
});
