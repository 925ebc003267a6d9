import { stripVTControlCharacters, styleText } from 'node:util';

export type Style = 'reset' | 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Where a table is drawn: standard output, or what stands for it in a test. */
export type Terminal = {
  /** Set where somebody looks: then lines are cut to `columns`. */
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
};

export type Column<T> = {
  readonly title: string;
  readonly of: (row: T) => string;
  readonly colour?: (row: T) => Style | undefined;
  readonly right?: true;
  /** May be cut where the line is too long. An id never is: one wants to copy it. */
  readonly cut?: true;
};

const GAP = '  ';
/** A column that is cut keeps so much. */
const LEAST = 8;

/**
 * Rows as aligned columns. Widths are those of the first rows drawn, so that further pages stand below them. Colours
 * are `styleText`'s: on a terminal, and not with NO_COLOR.
 */
export function createTable<T>(columns: readonly Column<T>[], terminal: Terminal) {
  let widths: number[] | undefined;

  function line(cells: readonly string[], paint: (text: string, index: number) => string): string {
    const padded = cells.map((cell, index) => {
      const width = widths?.[index] ?? 0;
      const text = columns[index]?.cut && terminal.isTTY ? shorten(cell, width) : cell;
      const space = ' '.repeat(Math.max(0, width - lengthOf(text)));
      const last = index === cells.length - 1;
      return columns[index]?.right ? space + paint(text, index) : paint(text, index) + (last ? '' : space);
    });
    return `${padded.join(GAP).trimEnd()}\n`;
  }

  return {
    draw(rows: readonly T[]): void {
      const cells = rows.map((row) => columns.map((column) => printable(column.of(row))));
      if (!widths) {
        widths = widthsOf(columns, cells, terminal);
        const titles = columns.map(({ title }) => title);
        terminal.write(line(titles, (text) => style(terminal, 'bold', text)));
      }
      for (const [index, row] of rows.entries()) {
        terminal.write(
          line(cells[index] ?? [], (text, column) => {
            const colour = columns[column]?.colour?.(row);
            return colour ? style(terminal, colour, text) : text;
          }),
        );
      }
    },
  };
}

export type Fact = readonly [name: string, value: string | undefined, colour?: Style | undefined];

/** Names and values, one below the other; what is undefined is left out. */
export function drawFacts(facts: readonly Fact[], terminal: Terminal): void {
  const width = Math.max(...facts.map(([name, value]) => (value === undefined ? 0 : name.length)));
  for (const [name, value, colour = 'reset'] of facts) {
    if (value === undefined) continue;
    const [first = '', ...more] = value
      .split('\n')
      .map((line) => (colour === 'reset' ? printable(line) : style(terminal, colour, printable(line))));
    terminal.write(`  ${style(terminal, 'dim', name.padEnd(width))}${GAP}${first}\n`);
    for (const text of more) terminal.write(`  ${' '.repeat(width)}${GAP}${text}\n`);
  }
}

export function style(terminal: Terminal, format: Style, text: string): string {
  if (!terminal.isTTY || process.env.NO_COLOR) return text;
  return styleText(format, text, { validateStream: false });
}

/** What comes from people must not move a terminal's cursor, change its colours, or turn its text around. */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, ' ');
}

function widthsOf<T>(
  columns: readonly Column<T>[],
  cells: readonly (readonly string[])[],
  { isTTY, columns: available }: Terminal,
): number[] {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...cells.map((row) => lengthOf(row[index] ?? ''))),
  );
  if (!isTTY || available === undefined) return widths;
  const total = () => widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));
  while (total() > available) {
    const [widest] = columns
      .map(({ cut, title }, index) => ({ index, least: cut ? Math.max(LEAST, title.length) : Number.NaN }))
      .filter(({ index, least }) => (widths[index] ?? 0) > least)
      .sort((a, b) => (widths[b.index] ?? 0) - (widths[a.index] ?? 0));
    if (!widest) break;
    widths[widest.index] = Math.max(widest.least, (widths[widest.index] ?? 0) - 1);
  }
  return widths;
}

function shorten(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

function lengthOf(text: string): number {
  return [...text].length;
}
