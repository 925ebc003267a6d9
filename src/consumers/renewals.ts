import { type Connection, runScript } from '../eventstore/connections.ts';
import { type LeaseCell, monotonicMs, setFailing, setLost, setRenewed } from './lease-cell.ts';
import { readScript } from './scripts.ts';

export const renewScript = readScript(import.meta.url, './lease-renew.lua');
export const releaseScript = readScript(import.meta.url, './lease-release.lua');

export type Renewals = {
  keep(id: number, key: string, token: number, cell: LeaseCell): void;
  forget(id: number): void;
  /** Renews what is due. What fails stays due, and is tried again at the next call. */
  renewDue(): void;
  /** Lost, all of them, from this moment; then given back, as far as Redis can be reached. Never rejects. */
  giveUp(): Promise<void>;
};

type Entry = { key: string; token: number; cell: LeaseCell; dueAt: number; asking: boolean };

/** The leases of a process, renewed over one connection. Says in each lease's cell how it stands. */
export function createRenewals(
  { redis }: Pick<Connection, 'redis'>,
  timing: { readonly leaseMs: number; readonly renewEveryMs: number },
): Renewals {
  const { leaseMs, renewEveryMs } = timing;
  const entries = new Map<number, Entry>();

  async function renew(id: number, entry: Entry): Promise<void> {
    const { key, token, cell } = entry;
    entry.asking = true;
    const asked = monotonicMs();
    try {
      const reply = await runScript(redis, renewScript, [key], [token, leaseMs]);
      if (entries.get(id) !== entry) return; // given up meanwhile: it stays lost
      if (reply === 1) {
        setRenewed(cell, asked + leaseMs);
        entry.dueAt = asked + renewEveryMs;
      } else {
        setLost(cell);
        entries.delete(id);
      }
    } catch {
      // It may yet be renewed in time; until then its holder begins nothing new.
      setFailing(cell);
    } finally {
      entry.asking = false;
    }
  }

  return {
    keep(id, key, token, cell) {
      entries.set(id, { key, token, cell, dueAt: monotonicMs() + renewEveryMs, asking: false });
    },
    forget: (id) => void entries.delete(id),
    renewDue() {
      const now = monotonicMs();
      for (const [id, entry] of entries) if (!entry.asking && entry.dueAt <= now) void renew(id, entry);
    },
    async giveUp() {
      const given = [...entries.values()];
      entries.clear();
      for (const { cell } of given) setLost(cell);
      await Promise.allSettled(
        given.map(({ key, token }) => runScript(redis, releaseScript, [key], ['token', token])),
      );
    },
  };
}
