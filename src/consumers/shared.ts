/** Things of which each partition needs one, made for the first who asks and closed after the last. */
export function shareByPartition<T extends { close(): void }>(
  open: (partition: number) => T,
): (partition: number) => { readonly value: T; readonly release: () => void } {
  const shared = new Map<number, { value: T; users: number }>();
  return (partition) => {
    const entry = shared.get(partition) ?? { value: open(partition), users: 0 };
    shared.set(partition, entry);
    entry.users++;
    let released = false;
    return {
      value: entry.value,
      release() {
        if (released) return;
        released = true;
        if (--entry.users > 0) return;
        shared.delete(partition);
        entry.value.close();
      },
    };
  };
}
