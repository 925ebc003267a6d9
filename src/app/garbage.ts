import { setFlagsFromString } from 'node:v8';

/**
 * Has V8 put nothing among what is old that is new. It learns from what has survived, which objects to make there at
 * once, and never forgets: with hundreds of jobs under way at any moment it learnt, in five processes of ten, that what
 * each job makes is to last. Those moved six times as much in memory, and a worker took half as long again for each job.
 *
 * For long-lived processes, at their beginning.
 */
export function keepNewObjectsYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
