#!/usr/bin/env node
// npx millrace …: the operators' commands, on a bare checkout and with any Node from 20 on. What the environment
// does not name is taken from the installation that runs in this checkout.
import { CLI } from './cli.mjs';
import { readInstallation } from './installation.mjs';
import { withNode24 } from './node.mjs';
import { files } from './paths.mjs';
import { runCommand } from './say.mjs';
import { readSecrets } from './secrets.mjs';
import { setUp } from './set-up.mjs';

await runCommand(async () => {
  const toolchain = await setUp({ redis: false, quiet: true });
  const { redisUrl, databaseUrl } = readInstallation();
  const known = {
    ...readSecrets(files.environment),
    BLOB_DIR: files.blobs,
    ...(redisUrl && { REDIS_URL: redisUrl }),
    ...(databaseUrl && { DATABASE_URL: databaseUrl }),
  };
  const environment = { ...known, ...process.env };
  const exitCode = await withNode24(toolchain, [CLI, ...process.argv.slice(2)], environment);
  if (exitCode !== 0 && !(environment.REDIS_URL && environment.DATABASE_URL)) {
    console.error('No Millrace runs in this checkout: npm start, or set REDIS_URL and DATABASE_URL.');
  }
  return exitCode;
});
