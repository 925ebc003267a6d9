import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { openDatabase } from '../../src/eventstore/postgres.ts';

/** A name that no other test run uses. */
export function randomName(kind: string): string {
  return `mill_${kind}_${randomBytes(6).toString('hex')}`;
}

export function databaseUrl(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

export async function createDatabase(serverUrl: string, name: string, template: string): Promise<void> {
  await onServer(serverUrl, sql`CREATE DATABASE ${sql.id(name)} TEMPLATE ${sql.id(template)}`);
}

export async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, sql`DROP DATABASE IF EXISTS ${sql.id(name)} WITH (FORCE)`);
}

async function onServer(serverUrl: string, statement: ReturnType<typeof sql>): Promise<void> {
  const server = openDatabase({ url: serverUrl, max: 1, applicationName: 'test', lockTimeoutMs: 0 });
  await statement.execute(server).finally(() => server.destroy());
}
