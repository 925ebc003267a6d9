/**
 * A thread of the process in which a job runs alone: it ends that process when the worker is gone. The event loop
 * would notice by the closed channel, but not while a job hangs in it.
 */
import { workerData } from 'node:worker_threads';

const LOOK_EVERY_MS = 500;

const parent: unknown = workerData;
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL');
}, LOOK_EVERY_MS);
