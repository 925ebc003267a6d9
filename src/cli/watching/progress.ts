import type { JobView } from '../../projections/jobs/queries.ts';
import { printable, style, type Terminal } from '../output/table.ts';
import { duration } from '../output/time.ts';
import { statusColour, statusText } from './status.ts';

const LONGEST_BAR = 40;
const SHORTEST_BAR = 10;

/**
 * One line, no longer than the terminal is wide: `export  ██████░░░░  60 %  running, attempt 1  12 s, about 8 s left`.
 * @param now ms since 1970
 */
export function progressLine(job: JobView, terminal: Terminal, now: number): string {
  const words = [
    `${Math.floor(job.progress)} %`.padStart(5),
    statusText(job) + (job.attempts > 1 ? `, attempt ${job.attempts}` : ''),
    times(job, now),
  ].filter((text) => text !== '');
  const text = printable(words.join('  '));
  const room = (terminal.columns ?? 80) - 1;
  const type = printable(job.type);
  const width = Math.min(LONGEST_BAR, room - type.length - text.length - 4);
  if (width < SHORTEST_BAR) return text.slice(0, room);
  const filled = Math.round((Math.min(100, Math.max(0, job.progress)) / 100) * width);
  const bar = '█'.repeat(filled) + '░'.repeat(width - filled);
  return `${type}  ${style(terminal, statusColour(job) ?? 'reset', bar)}  ${text}`;
}

function times({ status, progress, createdAt, dueAt, startedAt, finishedAt }: JobView, now: number): string {
  if (finishedAt !== undefined) return duration(Date.parse(finishedAt) - Date.parse(startedAt ?? createdAt));
  const until = Date.parse(dueAt) - now;
  if ((status === 'scheduled' || status === 'retrying') && until > 0) return `in ${duration(until)}`;
  if (status !== 'running' || startedAt === undefined) return duration(now - Date.parse(createdAt));
  const ran = now - Date.parse(startedAt);
  const left =
    progress > 0 && progress < 100 ? `, about ${duration((ran * (100 - progress)) / progress)} left` : '';
  return `${duration(ran)}${left}`;
}
