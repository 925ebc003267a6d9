/** A live stream over a real connection, event by event. */
export async function openStream(url: string, headers: Record<string, string>) {
  const controller = new AbortController();
  const response = await fetch(url, { headers, signal: controller.signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let buffered = '';
  return {
    response,
    leave: () => controller.abort(),
    /** The next event without its trailing blank line; undefined at the end. */
    async next(): Promise<string | undefined> {
      while (!buffered.includes('\n\n')) {
        const chunk = await reader?.read();
        if (!chunk || chunk.done) return undefined;
        buffered += chunk.value;
      }
      const [event = '', ...rest] = buffered.split('\n\n');
      buffered = rest.join('\n\n');
      return event;
    },
  };
}
