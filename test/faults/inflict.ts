import { setTimeout as sleep } from 'node:timers/promises';
import type { Installation } from './installation.ts';
import type { Fault } from './plan.ts';
import type { Servers } from './servers.ts';

/** What was done, and when, in ms since 1970. */
export type Inflicted = { readonly fault: Fault; readonly at: number; readonly until: number };

/**
 * Lets a storm pass over an installation: each fault at its time, healed when its time is up. Resolves when the last
 * one is over. A server that is down already is not ended again; the fault is left out.
 */
export async function storm(
  plan: readonly Fault[],
  { installation, servers }: { installation: Installation; servers: Servers },
  onFault: (fault: Fault) => void = () => {},
): Promise<Inflicted[]> {
  const begun = Date.now();
  /** Faults of one target follow each other: a process can't be killed while it is down. */
  const busy = new Set<string>();
  const inflicted = await Promise.all(
    plan.map(async (fault): Promise<Inflicted[]> => {
      await sleep(Math.max(0, begun + fault.atMs - Date.now()));
      const target = targetOf(fault);
      if (busy.has(target)) return [];
      busy.add(target);
      onFault(fault);
      const at = Date.now();
      await inflict(fault, installation, servers);
      busy.delete(target);
      return [{ fault, at, until: Date.now() }];
    }),
  );
  return inflicted.flat();
}

function targetOf(fault: Fault): string {
  if (fault.kind === 'rebuild') return `rebuild of ${fault.readModel}`;
  if (!('process' in fault)) return fault.kind.split('-')[0] ?? fault.kind;
  if ('server' in fault || fault.kind === 'drop-replies') {
    return `${fault.process} to ${'server' in fault ? fault.server : 'redis'}`;
  }
  return fault.kind === 'clock' ? `clock of ${fault.process}` : fault.process;
}

/** Resolves when it is healed. */
async function inflict(fault: Fault, installation: Installation, servers: Servers): Promise<void> {
  const healed = () => sleep(fault.forMs);
  switch (fault.kind) {
    case 'kill':
    case 'deploy': {
      const process = installation.process(fault.process);
      await (fault.kind === 'kill' ? process.kill() : process.stop());
      await healed();
      process.start();
      return;
    }
    case 'stop': {
      const process = installation.process(fault.process);
      process.signal('SIGSTOP');
      await healed();
      process.signal('SIGCONT');
      return;
    }
    case 'redis-restart':
    case 'redis-kill':
    case 'postgres-restart':
    case 'postgres-kill': {
      const server = fault.kind.startsWith('redis') ? servers.redis : servers.postgres;
      await (fault.kind.endsWith('kill') ? server.kill() : server.stop());
      await healed();
      await server.start();
      return;
    }
    case 'rebuild': {
      const deadline = Date.now() + fault.forMs;
      const args = ['projections', 'rebuild', fault.readModel, '--reason', 'a storm', '--yes', '--json'];
      // What it needs may be down, or one is under way: 1 and 3 say so.
      while ((await installation.cli(args)).code !== 0 && Date.now() < deadline) await sleep(500);
      return;
    }
    case 'redis-hang':
      servers.redis.signal('SIGSTOP');
      await healed();
      servers.redis.signal('SIGCONT');
      return;
    case 'clock': {
      const process = installation.process(fault.process);
      process.setClock(fault.shiftMs);
      await healed();
      process.setClock(0);
      return;
    }
    case 'drop-replies': {
      const proxy = installation.network(fault.process, 'redis');
      const isScript = (request: string) => /evalsha/i.test(request);
      let left = fault.replies;
      proxy.onDropped(() => proxy.dropReplyTo(--left > 0 ? isScript : undefined));
      proxy.dropReplyTo(isScript);
      await healed();
      proxy.dropReplyTo(undefined);
      return;
    }
    case 'half-open': {
      const proxy = installation.network(fault.process, fault.server);
      proxy.swallow(fault.side);
      await healed();
      proxy.accept();
      return;
    }
    case 'partition': {
      const proxy = installation.network(fault.process, fault.server);
      proxy.refuse();
      await healed();
      proxy.accept();
      return;
    }
    case 'latency': {
      const proxy = installation.network(fault.process, fault.server);
      proxy.delay(fault.delayMs);
      await healed();
      proxy.delay(0);
      return;
    }
  }
}
