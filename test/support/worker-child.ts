/** The process in which a test's job runs alone: see test-jobs.ts. Environment: REDIS_URL, PREFIX, INSTANCE_ID. */
import { serveRun } from '../../src/consumers/child.ts';
import { connectWriter } from '../../src/eventstore/connections.ts';
import { testJob } from './test-jobs.ts';

const { REDIS_URL: url = '', PREFIX: prefix = '', INSTANCE_ID: instanceId = '' } = process.env;
const { redis, whenReady } = connectWriter({ url, name: 'worker-child', scripts: [] });
await whenReady(5_000);
await redis.rpush(`${prefix}:children`, process.pid);
const job = testJob(instanceId, (word, jobId, attempt) =>
  redis.rpush(`${prefix}:runs`, `${word} ${jobId} ${attempt} ${instanceId} alone`),
);
serveRun([job], { log: { level: 'info', instanceId } });
