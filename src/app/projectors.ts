import { createLedger } from '../consumers/ledger.ts';
import { observeLedger } from '../consumers/observe-ledger.ts';
import { startProjectors } from '../consumers/projectors.ts';
import { createReactorGroup } from '../consumers/reactor.ts';
import { codec } from '../domain/events.ts';
import { gatherMoves } from '../eventstore/gathered-moves.ts';
import { openPool } from '../eventstore/postgres.ts';
import { type Observe, observeProjection } from '../projections/observe.ts';
import type { AnyProjection, AnyRow } from '../projections/projection.ts';
import { createProjectionGroup } from '../projections/runner.ts';
import { type Base, openParts, type Role } from './base.ts';
import { connectCache, forgetApplied, forgetGroup } from './cached-reads.ts';
import { roleDeps, roleOf } from './consuming.ts';
import { keepErased } from './erasing.ts';
import { reactorsOf } from './reactors.ts';
import { forEachReadModel } from './read-models.ts';
import { createRebuilding } from './rebuilding.ts';
import { untilNotNeeded } from './versions.ts';
import { commandBasics, SESSION_LIFETIME_MS } from './write-side.ts';

const LEDGER_POOL = 4;

const TRIM_EVERY_MS = 5_000;

/** The ledger, the projections, reactors, and trimming. */
export async function startProjectorRole(base: Base): Promise<Role> {
  const { metrics, config } = base;
  const trim = {
    windowEvents: config.LOG_KEEP_EVENTS,
    retentionMs: config.LOG_KEEP_SECONDS * 1000,
    sessionLifetimeMs: SESSION_LIFETIME_MS,
    everyMs: TRIM_EVERY_MS,
  };
  const parts = await openParts(base, 'projectors');
  const { db, store } = parts;
  const pool = openPool({
    url: base.config.DATABASE_URL,
    max: LEDGER_POOL,
    applicationName: 'millrace-ledger',
  });
  const cache = config.READ_CACHE_SECONDS > 0 ? connectCache(config, 'projectors') : undefined;
  const observing = <R extends AnyRow>(projection: AnyProjection<R>): Observe => {
    const measure = observeProjection(projection, metrics);
    const forget = cache && forgetApplied(cache, config.KEY_PREFIX, projection);
    return (applied, startTime, parked) => {
      forget?.(applied); // first: what measures may take its time
      measure(applied, startTime, parked);
    };
  };
  const pass = gatherMoves(db);
  const reading = <R extends AnyRow>(projection: AnyProjection<R>) =>
    createProjectionGroup({ db, projection, codec, pass, observe: observing(projection) });
  const groups = [
    createLedger(pool, db, { observe: observeLedger }),
    ...Object.values(forEachReadModel(reading)),
    // Here, where the log is read anyway: a tail of its own would cost the workers as much as their jobs.
    ...reactorsOf(base.config).map((reactor) =>
      createReactorGroup({ ...commandBasics(store), store }, reactor),
    ),
  ];
  const rebuilding = createRebuilding(base, parts, cache && forgetGroup(cache, config, base.logger));
  const running = await startProjectors({
    ...roleDeps(base, parts, 'projectors'),
    ...{ groups, passing: rebuilding.groups, onLag: rebuilding.onLag, trim },
  });
  rebuilding.start(() => {
    running.announce().catch((err: unknown) => base.logger.debug({ err }, 'a heartbeat failed'));
  });
  const neededForMs = base.config.SHUTDOWN_SECONDS * 800;
  const staying = {
    ...running,
    async stop() {
      await untilNotNeeded(base, parts, running.member, neededForMs);
      await running.stop();
    },
  };
  const keeping = keepErased(db, base.logger);
  return roleOf('projectors', staying, { db, store }, async () => {
    keeping.stop();
    await rebuilding.stop();
    cache?.close();
    await pool.end();
    await parts.close();
  });
}
