/** `unknown`: it could not be found out, which is no reason to believe that it is well. */
export type Verdict = 'ok' | 'warn' | 'fail' | 'unknown';

/** What was looked at, and how it is. */
export type Finding = {
  readonly name: string;
  readonly verdict: Verdict;
  /** What was found. */
  readonly detail: string;
  /** What to do about it. Absent where all is well. */
  readonly mend?: string;
};

export const ok = (name: string, detail: string): Finding => ({ name, verdict: 'ok', detail });
export const warn = (name: string, detail: string, mend: string): Finding => ({
  ...{ name, verdict: 'warn', detail, mend },
});
export const fail = (name: string, detail: string, mend: string): Finding => ({
  ...{ name, verdict: 'fail', detail, mend },
});
export const unknown = (name: string, detail: string, mend: string): Finding => ({
  ...{ name, verdict: 'unknown', detail, mend },
});

export const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message || error.name : String(error);
