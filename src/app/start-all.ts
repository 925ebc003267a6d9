/**
 * Starts several at once. Where one can't start, those that did are stopped in order before its error is thrown:
 * otherwise what they had taken would wait for its leases to run out.
 */
export async function startAll<T extends { stop(): Promise<void> }>(
  starts: readonly (() => Promise<T>)[],
): Promise<T[]> {
  const results = await Promise.allSettled(starts.map((start) => start()));
  const started = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failed = results.find((result) => result.status === 'rejected');
  if (!failed) return started;
  await Promise.allSettled(started.map((each) => each.stop()));
  throw failed.reason;
}
