import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // What needs no servers (npm run check) says so, and works where there is no Redis.
    globalSetup: process.env.TEST_SERVERS === 'none' ? [] : ['test/support/global-setup.ts'],
    // Real servers: a slow machine under load must not turn a right answer into a red one. What a test waits for has a limit
    // of its own.
    testTimeout: 240_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // Most tests wait for processes and servers more than they compute, also on two cores.
    maxWorkers: Math.max(2, Math.floor(availableParallelism() / 2)),
  },
});
