import type { Config } from '../../config.ts';
import type { Connection } from '../../eventstore/connections.ts';
import { type Finding, fail, ok, unknown, warn } from './finding.ts';

type Redis = Connection['redis'];
type Field = (name: string) => string | undefined;

/** What INFO tells, and CONFIG where it is open: managed services close it. Throws what the connection throws. */
export async function examineRedis(
  redis: Redis,
  { DURABILITY }: Pick<Config, 'DURABILITY'>,
): Promise<Finding[]> {
  const info = await redis.info();
  const field: Field = (name) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const [policy, fsync, save] = await Promise.all([
    field('maxmemory_policy') ?? setting(redis, 'maxmemory-policy'),
    setting(redis, 'appendfsync'),
    setting(redis, 'save'),
  ]);
  return [
    version(field),
    role(field),
    eviction(field, policy),
    memory(field),
    appendOnly(field),
    ...fsyncOf(field, fsync),
    snapshots(field, save),
    replicas(field, DURABILITY),
    clients(field),
  ];
}

function version(field: Field): Finding {
  const text = field('redis_version');
  if (text === undefined)
    return unknown('version', 'INFO does not tell it', 'make sure that it is 7.0 or newer');
  const name = field('valkey_version') ? `Valkey ${field('valkey_version')}` : `Redis ${text}`;
  if (Number.parseInt(text, 10) >= 7) return ok('version', name);
  return fail('version', name, 'use Redis 7.0 or newer, or Valkey');
}

function role(field: Field): Finding {
  const found = field('role');
  if (found === undefined)
    return unknown('role', 'INFO does not tell it', 'make sure that REDIS_URL leads to the master');
  if (found === 'master') return ok('role', 'master');
  return fail('role', found, 'let REDIS_URL lead to the master: commits need it');
}

function eviction(field: Field, policy: string | undefined): Finding {
  const name = 'eviction';
  const mend = 'CONFIG SET maxmemory-policy noeviction, and in redis.conf';
  if (Number(field('evicted_keys') ?? 0) > 0) {
    return fail(
      name,
      `${field('evicted_keys')} keys were thrown away since it started`,
      `${mend}; then millrace verify`,
    );
  }
  if (policy === undefined)
    return unknown(name, 'the maxmemory-policy is not told', 'make sure that it is noeviction');
  if (policy === 'noeviction') return ok(name, policy);
  return fail(name, `maxmemory-policy is ${policy}: Redis would throw events and unfinished work away`, mend);
}

function memory(field: Field): Finding {
  const name = 'memory';
  const [used, most, machine] = ['used_memory', 'maxmemory', 'total_system_memory'].map((each) =>
    Number(field(each) ?? 0),
  );
  const limit = most || (machine ?? 0) / 2;
  if (!used || limit === 0)
    return unknown(name, 'INFO does not tell it', 'look at it where Redis is managed');
  const share = used / limit;
  const said = `${megabytes(used)} of ${megabytes(limit)}${most ? '' : ' (half of the machine, as there is no maxmemory)'}`;
  if (share >= 0.75) return fail(name, said, 'commands are stopped: docs/runbooks/redis-is-full.md');
  if (share >= 0.6) return warn(name, said, 'give it more before 75 %, where commands stop');
  if (!most)
    return warn(name, said, 'set maxmemory to what Redis may really have, so that the guard knows it');
  return ok(name, said);
}

function appendOnly(field: Field): Finding {
  const name = 'append-only file';
  const mend = 'CONFIG SET appendonly yes, and in redis.conf';
  if (field('aof_last_write_status') === 'err') {
    return fail(name, 'the last write to it failed', "look at Redis' log: its disk is full or broken");
  }
  if (field('aof_last_bgrewrite_status') === 'err') {
    return fail(
      name,
      'it could not be rewritten',
      "look at Redis' log: memory to fork with, or room on the disk, is missing",
    );
  }
  if (field('aof_enabled') === undefined)
    return unknown(name, 'INFO does not tell it', 'make sure that there is one');
  if (field('aof_enabled') === '1') return ok(name, 'on');
  return fail(name, 'off: a restart loses what the ledger does not have yet', mend);
}

function fsyncOf(field: Field, fsync: string | undefined): Finding[] {
  const name = 'appendfsync';
  if (field('aof_enabled') === '0') return [];
  if (fsync === undefined) {
    return [unknown(name, 'CONFIG is closed', 'ask the provider: always, or everysec with a replica')];
  }
  if (fsync === 'always') return [ok(name, fsync)];
  const mend =
    'CONFIG SET appendfsync always, or add a replica, or use Durability: ledger for what must not be lost';
  if (fsync === 'no') return [fail(name, 'no: the operating system decides when it is written', mend)];
  if (Number(field('connected_slaves') ?? 0) > 0) return [ok(name, `${fsync}, with a replica`)];
  return [warn(name, `${fsync}, with no replica: a crash of the machine may lose a second`, mend)];
}

function snapshots(field: Field, save: string | undefined): Finding {
  const name = 'snapshots';
  if (field('rdb_last_bgsave_status') === 'err') {
    return fail(
      name,
      'the last one failed, and Redis may refuse writes for it',
      "look at Redis' log: disk, or memory to fork with",
    );
  }
  if (save === undefined)
    return unknown(name, 'CONFIG is closed', 'they are for backups only: nothing here needs them');
  return ok(name, save === '' ? 'none' : `save ${save}`);
}

function replicas(field: Field, durability: Config['DURABILITY']): Finding {
  const count = field('connected_slaves');
  if (count === undefined)
    return unknown('replicas', 'INFO does not tell them', 'look at it where Redis is managed');
  const said = count === '1' ? '1 replica' : `${count} replicas`;
  if (durability === 'replicated' && count === '0') {
    return fail(
      'replicas',
      'none, and DURABILITY is replicated: every command answers 504',
      'add a replica, or change DURABILITY',
    );
  }
  return ok('replicas', said);
}

function clients(field: Field): Finding {
  const [now, most] = [Number(field('connected_clients') ?? 0), Number(field('maxclients') ?? 0)];
  if (most === 0)
    return unknown('connections', 'INFO does not tell how many there may be', 'look at maxclients');
  const said = `${now} of ${most}`;
  return now > most * 0.8 ? warn('connections', said, 'raise maxclients') : ok('connections', said);
}

async function setting(redis: Redis, name: string): Promise<string | undefined> {
  try {
    const reply: unknown = await redis.config('GET', name);
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : undefined;
  } catch {
    return undefined;
  }
}

const megabytes = (bytes: number) => `${Math.round(bytes / 1_048_576)} MiB`;
