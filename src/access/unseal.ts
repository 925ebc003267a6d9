/**
 * Opens every sealed text in an event's data, however deep; the rest is given back as it is.
 * @param open all of one person's texts at once, in their order
 */
export async function unsealed(
  data: unknown,
  open: (texts: readonly string[]) => Promise<string[]>,
): Promise<unknown> {
  const sealed: string[] = [];
  walk(data, (text) => {
    sealed.push(text);
    return text;
  });
  if (sealed.length === 0) return data;
  const opened = await open(sealed);
  let next = 0;
  return walk(data, () => opened[next++] ?? '');
}

function walk(value: unknown, each: (text: string) => string): unknown {
  if (typeof value === 'string') return value.startsWith('sealed:v1:') ? each(value) : value;
  if (Array.isArray(value)) return value.map((item) => walk(item, each));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(item, each)]));
}
