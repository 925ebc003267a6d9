/**
 * A position names one event of one partition: `<partition>.<epoch>.<seq>`. Clients get it from a command's
 * answer and give it to a query; to them it is opaque.
 */

export type Position = { readonly partition: number; readonly epoch: number; readonly seq: number };

const PATTERN = /^(\d{1,4})\.(\d{1,9})\.(\d{1,15})$/;

export function formatPosition(position: Position): string {
  return `${position.partition}.${position.epoch}.${position.seq}`;
}

/** Undefined: malformed. */
export function parsePosition(text: string): Position | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  return { partition: Number(match[1]), epoch: Number(match[2]), seq: Number(match[3]) };
}
