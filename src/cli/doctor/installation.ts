import type { Db } from '../../app/base.ts';
import { readStanding } from '../../app/standing/read.ts';
import type { Config } from '../../config.ts';
import type { Connection } from '../../eventstore/connections.ts';
import { openEpochs, readInstallation } from '../../eventstore/installation.ts';
import { openLosses } from '../../eventstore/losses.ts';
import { readMetas } from '../../eventstore/meta.ts';
import { createKeys } from '../../eventstore/partitions.ts';
import type { Standing } from '../../http/standing/routes.ts';
import { pendingMigrations } from '../../projections/migrate.ts';
import { type Finding, fail, ok, unknown, warn } from './finding.ts';

const ROLES = ['api', 'projectors', 'workers'] as const;
const RECOVER = 'millrace recover --dry-run says what is wrong: docs/runbooks/redis-was-lost.md';

/** What Redis and Postgres hold of this installation. Changes nothing. */
export async function examineInstallation(
  db: Db,
  connection: Connection | undefined,
  config: Config,
): Promise<Finding[]> {
  const pending = await pendingMigrations(db);
  if (pending.length > 0) return [fail('migrations', `pending: ${pending.join(', ')}`, 'millrace migrate')];
  const said = await partitions(db, config);
  const findings = [ok('migrations', 'none is pending'), said];
  // With another number of partitions all keys have other names.
  if (!connection || said.verdict === 'fail') return findings;
  const keys = createKeys(config.KEY_PREFIX, config.PARTITIONS);
  findings.push(await trust(db, connection, keys), await losses(db));
  const standing = await readStanding({
    ...{ db, keys, prefix: config.KEY_PREFIX, redis: connection.redis, now: () => new Date() },
    fencedBecause: () => undefined,
  });
  return [
    ...findings,
    ...processes(standing),
    leases(standing),
    ledger(standing),
    readModels(standing),
    paused(standing),
  ];
}

async function partitions(db: Db, { PARTITIONS }: Config): Promise<Finding> {
  const found = await readInstallation(db);
  if (!found)
    return warn('partitions', 'the installation has not begun yet', 'start a process: it begins it');
  if (found.partitions === PARTITIONS) return ok('partitions', String(PARTITIONS));
  return fail(
    'partitions',
    `there are ${found.partitions}, and PARTITIONS says ${PARTITIONS}`,
    `PARTITIONS=${found.partitions}: it can’t be changed`,
  );
}

/** What each process's fence asks: whether this server is the one that the ledger trusts, in every partition. */
async function trust(db: Db, connection: Connection, keys: ReturnType<typeof createKeys>): Promise<Finding> {
  const [installation, metas, epochs] = await Promise.all([
    readInstallation(db),
    readMetas(connection.redis, keys),
    openEpochs(db),
  ]);
  if (!installation) return ok('commits', 'nothing was committed yet');
  const run = connection.runId();
  const wrong = keys.flatMap(({ partition }) => {
    const [meta, epoch] = [metas[partition], epochs.get(partition)];
    if (!meta) return [`partition ${partition} is not in Redis`];
    if (meta.store !== installation.storeId) return [`partition ${partition} is another installation’s`];
    if (meta.run !== run || epoch?.runId !== run)
      return [`partition ${partition} trusts another Redis than this one`];
    return meta.epoch === epoch?.epoch
      ? []
      : [`partition ${partition} is in epoch ${meta.epoch}, the ledger in ${epoch?.epoch}`];
  });
  const [first] = wrong;
  if (!first)
    return ok('commits', `Redis is the one that the ledger trusts, in all ${keys.length} partitions`);
  return fail(
    'commits',
    `stopped: ${first}${wrong.length > 1 ? `, and ${wrong.length - 1} more like it` : ''}`,
    RECOVER,
  );
}

async function losses(db: Db): Promise<Finding> {
  const lost = await openLosses(db);
  if (lost.length === 0) return ok('losses', 'none that nobody accepted');
  const events = lost.reduce((sum, { seq, lastSeq }) => sum + seq - lastSeq, 0);
  return fail('losses', `${events} events are missing in ${lost.length} partitions`, RECOVER);
}

function processes({ overview }: Standing): Finding[] {
  return ROLES.map((role) => {
    const count = overview.processes[role] ?? 0;
    if (count > 0) return ok(role, count === 1 ? '1 process' : `${count} processes`);
    return warn(
      role,
      'no process was heard of for nine seconds',
      `start one: npm start, or node src/main.ts ${role}`,
    );
  });
}

/** Of groups that somebody runs: those that nobody runs are said to lack a process. */
function leases({ groups, workers }: Standing): Finding {
  const orphans = groups.filter(
    ({ members, owned = 0, partitions }) => members?.length && owned < partitions,
  );
  const alive = new Set(workers.map(({ member }) => member));
  const dead = new Set(
    groups.flatMap(({ shares }) =>
      shares.flatMap(({ owner }) => (owner && !alive.has(owner) ? [owner] : [])),
    ),
  );
  if (orphans.length > 0) {
    const said = orphans.map(({ id, owned, partitions }) => `${id} ${owned} of ${partitions}`).join(', ');
    return warn(
      'leases',
      `in nobody’s hands: ${said}`,
      'after 15 s it is a fault: docs/runbooks/a-group-lags.md',
    );
  }
  if (dead.size > 0) {
    return warn(
      'leases',
      `held by who was not heard of: ${[...dead].join(', ')}`,
      'they run out within 15 s',
    );
  }
  return ok('leases', 'all are held by processes that are alive');
}

function ledger({ groups }: Standing): Finding {
  const { lagEvents, lagSeconds = 0 } = groups.find(({ kind }) => kind === 'ledger') ?? {};
  if (lagEvents === undefined)
    return unknown('ledger', 'how far it is behind is not known', 'millrace groups ls');
  const said =
    lagEvents === 0 ? 'has every event' : `${lagEvents} events behind, the oldest ${lagSeconds} s old`;
  if (lagEvents === 0 || lagSeconds < 10) return ok('ledger', said);
  return lagSeconds > 60
    ? fail('ledger', said, 'Redis alone has these: docs/runbooks/a-group-lags.md')
    : warn('ledger', said, 'docs/runbooks/a-group-lags.md');
}

function readModels({ projections }: Standing): Finding {
  const current = projections.filter((each) => each.current);
  const parked = current.filter(({ parked = 0 }) => parked > 0);
  if (parked.length > 0) {
    const said = parked
      .map(({ id, parked, parkedRows }) => `${id} ${parked} in ${parkedRows} rows`)
      .join(', ');
    return fail('read models', `events could not be applied: ${said}`, 'docs/runbooks/a-poisoned-event.md');
  }
  const behind = current.filter(({ lagSeconds = 0, paused }) => lagSeconds > 10 && !paused);
  if (behind.length > 0) {
    const said = behind
      .map(({ id, lagEvents, lagSeconds }) => `${id} ${lagEvents} events, ${lagSeconds} s`)
      .join(', ');
    return warn('read models', `behind: ${said}`, 'docs/runbooks/projection-stalled.md');
  }
  return ok('read models', `${current.length}, and nothing is parked`);
}

function paused({ groups }: Standing): Finding {
  const found = groups.filter((group) => group.paused);
  if (found.length === 0) return ok('pauses', 'no group is paused');
  const said = found.map(
    ({ id, paused }) => `${id} since ${paused?.since}, by ${paused?.by}: ${paused?.reason}`,
  );
  return warn('pauses', said.join('; '), 'millrace groups resume');
}
