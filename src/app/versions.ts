import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { memberName } from '../consumers/assignment.ts';
import { aliveMembers, joinMembers, type Membership } from '../consumers/membership.ts';
import { projections } from '../features.ts';
import { missingReadModels } from '../projections/generations.ts';
import { groupOf } from '../projections/projection.ts';
import type { Readiness } from '../telemetry/management.ts';
import type { Base, Parts } from './base.ts';

/** Members' role of those that read: what they announce is kept up to date for them. */
const READERS = 'api';
const LOOK_MS = 250;

/** Groups of the versions of read models that this code has. */
const groups = (): string[] => Object.values(projections).map(groupOf);

/** Says which versions of read models this process answers from, as long as it does. */
export function announceReads(
  { config, logger }: Base,
  { store }: Pick<Parts, 'store'>,
): Promise<Membership> {
  return joinMembers({
    redis: store.writer.redis,
    prefix: config.KEY_PREFIX,
    role: READERS,
    member: memberName(config.INSTANCE_ID, randomBytes(6).toString('hex')),
    hints: { publish: () => {} },
    groups,
    onError: (err) => logger.debug({ err }, 'a heartbeat failed'),
  });
}

/** Whether all read models of this code hold what there was when somebody first looked: a new version is built meanwhile. */
export async function checkReadModels({ db }: Pick<Parts, 'db'>): Promise<Readiness['checks'][string]> {
  const missing = await missingReadModels(db, Object.values(projections));
  if (missing.length === 0) return { ok: true };
  return { ok: false, detail: `not caught up yet: ${missing.join(', ')}` };
}

/**
 * Resolves once nobody needs this process to feed its versions of read models: another process does, or nobody reads them
 * any more, or time is up. Only while newer code, or older, runs beside it: else there is nobody to wait for.
 */
export async function untilNotNeeded(
  { config, logger }: Base,
  { store }: Pick<Parts, 'store'>,
  me: string,
  withinMs: number,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  const alive = (role: string) => aliveMembers(store.writer.redis, config.KEY_PREFIX, role);
  try {
    for (;;) {
      const [readers, projectors] = await Promise.all([alive(READERS), alive('projectors')]);
      const others = [...projectors].filter(([member]) => member !== me).map(([, has]) => has);
      const orphans = groups().filter(
        (group) =>
          others.length > 0 &&
          !others.some((has) => has.has(group)) &&
          [...readers.values()].some((reads) => reads.has(group)),
      );
      if (orphans.length === 0) return;
      if (performance.now() > deadline) {
        logger.warn(
          { groups: orphans },
          'processes still read what nobody feeds from now on: stop them first',
        );
        return;
      }
      await sleep(LOOK_MS);
    }
  } catch (err) {
    logger.debug({ err }, 'who else is there could not be asked');
  }
}
