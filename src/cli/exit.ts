/** What `main.ts` leaves with. */
export const EXIT_CODES = [
  [0, 'done'],
  [1, 'refused, or failed; of `jobs watch`: the job failed or was cancelled'],
  [2, 'used wrongly: an option is missing or makes no sense, or the environment does'],
  [3, 'something that it needs is away; nothing was done'],
] as const;

/** The command line can't be carried out as it was given; `message` says what to do instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
