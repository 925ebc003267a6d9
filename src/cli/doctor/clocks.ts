import { type Kysely, sql } from 'kysely';
import type { Connection } from '../../eventstore/connections.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

/** A clock that was asked: between when, and what it said. All are ms since 1970. */
export type Reading = { readonly asked: number; readonly said: number; readonly answered: number };

/** Far more than machines are apart that have their time from anywhere. */
const APART_MS = 1_000;
/** A ticket for a stream is good for a minute, and tokens for a few. */
const FAR_APART_MS = 30_000;

export async function readRedisClock({ redis }: Pick<Connection, 'redis'>): Promise<Reading> {
  return reading(async () => {
    const [seconds = Number.NaN, micros = Number.NaN] = (await redis.time()).map(Number);
    return seconds * 1_000 + micros / 1_000;
  });
}

export async function readPostgresClock(db: Kysely<never>): Promise<Reading> {
  return reading(async () => {
    const { rows } = await sql<{ at: number }>`
      SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS at`.execute(db);
    return rows[0]?.at ?? Number.NaN;
  });
}

async function reading(ask: () => Promise<number>): Promise<Reading> {
  await ask(); // connections are made, and statements prepared: the next one is as quick as the way there
  const asked = Date.now();
  const said = await ask();
  return { asked, said, answered: Date.now() };
}

/** How far a clock is from this machine's; what the way there took is not held against it. */
export function judgeClock(name: string, { asked, said, answered }: Reading): Finding {
  const offBy = said > answered ? said - answered : said < asked ? said - asked : 0;
  const within = answered - asked;
  const detail =
    offBy === 0
      ? `as this machine’s, within ${within} ms`
      : `${Math.abs(Math.round(offBy))} ms ${offBy > 0 ? 'ahead of' : 'behind'} this machine’s`;
  const mend = 'let all machines have their time from NTP (timedatectl, chronyc tracking)';
  const why = 'tokens, tickets and times of events go by clocks that differ';
  if (Math.abs(offBy) > FAR_APART_MS) return fail(name, `${detail}: ${why}`, mend);
  return Math.abs(offBy) > APART_MS ? warn(name, `${detail}: ${why}`, mend) : ok(name, detail);
}
