/** `TypeError: no room`, of an error as rows and events have it. */
export function errorText(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('message' in error)) return '';
  return 'name' in error ? `${error.name}: ${error.message}` : String(error.message);
}
