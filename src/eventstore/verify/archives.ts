import type { Kysely } from 'kysely';
import { type Archive, ArchiveDamagedError, type Archives } from '../archive/archives.ts';
import type { ArchivedEvent } from '../archive/format.ts';
import { archivesIn } from '../archive/list.ts';
import { type ArchivedPart, partsOf } from '../archive/register.ts';
import type { LedgerTables } from '../tables.ts';
import type { Findings } from './findings.ts';

/** Archives of which a damaged file is a finding, and has no events: those are missing, then, and the rest is read. */
export function toleratingDamage(archives: Archives, findings: Findings): Archives {
  const damaged = new Set<string>();
  return {
    ...archives,
    async read(archive) {
      if (damaged.has(archive.file)) return [];
      try {
        return await archives.read(archive);
      } catch (error) {
        if (!(error instanceof ArchiveDamagedError)) throw error;
        damaged.add(archive.file);
        findings.add({ kind: 'broken_archive', where: archive.file, detail: error.message });
        return [];
      }
    },
  };
}

/** Whether what is found by stream is what the files hold: each stream's versions are dense there, and all of them. */
export async function verifyArchives(
  snapshot: Kysely<LedgerTables>,
  archives: Archives,
  findings: Findings,
): Promise<void> {
  for (const archive of await archivesIn(snapshot)) {
    const events = await archives.read(archive);
    if (events.length > 0) await verifyIndex(snapshot, archive, events, findings);
  }
}

async function verifyIndex(
  snapshot: Kysely<LedgerTables>,
  { partition, last_seq, file }: Archive,
  events: readonly ArchivedEvent[],
  findings: Findings,
): Promise<void> {
  const said = await snapshot
    .selectFrom('archived_streams')
    .select(['stream_id as stream', 'first_version as first', 'last_version as last', 'last_seq as seq'])
    .where('partition', '=', partition)
    .where('archive', '=', last_seq)
    .execute();
  const index = new Map(said.map((part) => [part.stream, part]));
  const counts = new Map<string, number>();
  for (const { streamId } of events) counts.set(streamId, (counts.get(streamId) ?? 0) + 1);
  for (const part of partsOf(events)) {
    const found = index.get(part.stream);
    index.delete(part.stream);
    const dense = part.last - part.first + 1 === counts.get(part.stream);
    if (dense && found && same(part, found)) continue;
    const detail = `${file} holds versions ${part.first} to ${part.last}, its index says ${found ? `${found.first} to ${found.last}` : 'none'}`;
    findings.add({ kind: 'broken_archive', where: part.stream, detail });
  }
  for (const stream of index.keys()) {
    findings.add({ kind: 'broken_archive', where: stream, detail: `${file} holds nothing of it` });
  }
}

const same = (one: ArchivedPart, other: ArchivedPart) =>
  one.first === other.first && one.last === other.last && one.seq === other.seq;
