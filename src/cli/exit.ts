/** The command line can't be carried out as it was given; `message` says what to do instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
