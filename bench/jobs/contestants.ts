import { bullmq } from './bullmq.ts';
import type { Contestant } from './contestant.ts';
import { graphileWorker } from './graphile-worker.ts';
import { engine, whole } from './millrace.ts';
import { pgBoss } from './pg-boss.ts';

/** The first is what the others are compared with. */
export const contestants: readonly Contestant[] = [bullmq, engine, whole, pgBoss, graphileWorker];
