import type { Redis } from 'ioredis';

export type ServerCheck = {
  /** Reasons not to start. */
  readonly problems: readonly string[];
  /** What an operator should know. */
  readonly warnings: readonly string[];
};

/** Looks whether this Redis may hold a log. CONFIG is often closed on managed services: INFO is asked first. */
export async function checkServer(redis: Redis): Promise<ServerCheck> {
  const info = await redis.info();
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const problems: string[] = [];
  const warnings: string[] = [];

  const version = field('redis_version') ?? 'unknown';
  if (!(Number.parseInt(version, 10) >= 7)) problems.push(`Redis is ${version}; 7.0 or newer is needed`);
  if (field('role') !== 'master') problems.push('this Redis is a replica; commits need the master');

  const policy = field('maxmemory_policy') ?? (await setting(redis, 'maxmemory-policy'));
  if (policy === undefined)
    warnings.push("Redis doesn't tell its maxmemory-policy: make sure that it is noeviction");
  else if (policy !== 'noeviction') {
    problems.push(`maxmemory-policy is ${policy}: Redis would throw events away; it must be noeviction`);
  }

  if (field('aof_enabled') !== '1') {
    warnings.push('Redis has no append-only file: a restart loses what the ledger does not have yet');
  } else if (field('connected_slaves') === '0') {
    const fsync = await setting(redis, 'appendfsync');
    if (fsync === undefined) warnings.push("Redis doesn't tell its appendfsync");
    else if (fsync !== 'always') {
      warnings.push(
        `appendfsync is ${fsync} and there is no replica: a crash of the machine may lose a second`,
      );
    }
  }
  return { problems, warnings };
}

async function setting(redis: Redis, name: string): Promise<string | undefined> {
  try {
    const reply: unknown = await redis.config('GET', name);
    return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : undefined;
  } catch {
    return undefined;
  }
}
