/** What the owner of a job is told of its failure: no stack, which tells about our insides. */
export function failureOf(error: unknown): { name: string; message: string } {
  const { name = 'Error', message = '' }: { name?: unknown; message?: unknown } =
    typeof error === 'object' && error !== null ? error : {};
  return { name: String(name), message: String(message) };
}
