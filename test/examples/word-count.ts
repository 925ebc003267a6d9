import { Type } from 'typebox';
import { defineJob, NoRetryError } from '../../src/consumers/define-job.ts';

/** Counts the words of a text. */
export const wordCountJob = defineJob({
  type: 'word-count',
  enqueuedBy: 'accounts',
  queue: 'default',
  maxAttempts: 3,
  timeoutSeconds: 60,
  retry: { baseMs: 500, capMs: 30_000 },
  payload: Type.Object({ text: Type.String({ maxLength: 100_000 }) }, { additionalProperties: false }),
  result: Type.Object({ words: Type.Integer({ minimum: 0 }) }),
  async run({ job, signal, progress }) {
    const lines = job.payload.text.split('\n');
    if (lines.length > 10_000) throw new NoRetryError('the text has too many lines');
    let words = 0;
    for (const [index, line] of lines.entries()) {
      signal.throwIfAborted();
      words += line.split(/\s+/).filter(Boolean).length;
      progress((100 * (index + 1)) / lines.length);
    }
    return { words };
  },
});
