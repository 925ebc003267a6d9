const TRACEPARENT = '"traceparent":"';

/**
 * Reads one value of an event's metadata without parsing all of it: readers look at every event of a batch for
 * its time and its trace. A quoted text inside of another value has its quotes escaped, so it cannot match.
 */
export function traceparentOf(meta: string): string | undefined {
  const name = meta.indexOf(TRACEPARENT);
  if (name < 0) return undefined;
  const from = name + TRACEPARENT.length;
  const value = meta.slice(from, meta.indexOf('"', from));
  return value.includes('\\') ? undefined : value;
}

/** Whose event it is; undefined: the installation's own. */
export function ownerOf(meta: string): string | undefined {
  return /"owner":"([^"\\]*)"/.exec(meta)?.[1];
}

/** When the event was decided, ms since 1970; undefined where it does not say so. */
export function decidedAt(meta: string): number | undefined {
  const at = Date.parse(/"at":"([^"\\]*)"/.exec(meta)?.[1] ?? '');
  return Number.isNaN(at) ? undefined : at;
}
