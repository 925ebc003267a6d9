import type { RawEvent } from '../../../src/domain/event.ts';
import { codec } from '../../../src/domain/events.ts';
import { hashBatch } from '../../../src/eventstore/ledger-hash.ts';
import { foldBatch, readBatch } from '../../../src/projections/fold.ts';
import type { History, Violation } from '../history.ts';

/** The ledger by itself: dense seqs and versions, heads, and the hash chain. */
export function checkLedger({ events, heads, chain }: History): Violation[] {
  const found: Violation[] = [];
  const report = (what: string) => found.push({ count: 'ledger', what });
  const ids = new Set<string>();
  const versions = new Map<string, RawEvent>();
  for (const [partition, its] of Map.groupBy(events, (event) => event.partition)) {
    for (const [index, { seq }] of its.entries()) {
      if (seq !== index + 1) {
        report(`partition ${partition} has seq ${seq} in place ${index + 1}`);
        break;
      }
    }
  }
  for (const event of events) {
    if (ids.has(event.id)) report(`event ${event.id} is there twice`);
    ids.add(event.id);
    const before = versions.get(event.streamId)?.version ?? 0;
    if (event.version !== before + 1)
      report(`${event.streamId} goes on at version ${event.version} after ${before}`);
    versions.set(event.streamId, event);
  }
  for (const { streamId, version, seq } of heads) {
    const last = versions.get(streamId);
    if (last?.version !== version || last.seq !== seq)
      report(`the head of ${streamId} is not its last event`);
    versions.delete(streamId);
  }
  for (const streamId of versions.keys()) report(`${streamId} has no head`);
  return [...found, ...checkChain(events, chain)];
}

function checkChain(events: readonly RawEvent[], chain: History['chain']): Violation[] {
  const found: Violation[] = [];
  const byPartition = Map.groupBy(events, (event) => event.partition);
  const batches = Map.groupBy(chain, (batch) => batch.partition);
  for (const [partition, its] of byPartition) {
    let previous: Buffer = Buffer.alloc(32);
    let next = 1;
    for (const batch of batches.get(partition) ?? []) {
      const hash = hashBatch(previous, its.slice(batch.first - 1, batch.last));
      if (batch.first !== next || !batch.previous.equals(previous) || !batch.hash.equals(hash)) {
        found.push({
          count: 'ledger',
          what: `partition ${partition}: the hash chain breaks at seq ${batch.first}`,
        });
        break;
      }
      previous = hash;
      next = batch.last + 1;
    }
    const last = its.at(-1)?.seq ?? 0;
    if (next !== last + 1 && found.length === 0)
      found.push({
        count: 'ledger',
        what: `partition ${partition}: the hash chain ends at ${next - 1} of ${last}`,
      });
  }
  return found;
}

/** Log and ledger agree on every event that both have, and on where they end. */
export function checkLog({ events, log, logHeads }: History): Violation[] {
  const ledger = new Map(events.map((event) => [`${event.partition}.${event.seq}`, event]));
  const found: Violation[] = [];
  for (const event of log) {
    const same = ledger.get(`${event.partition}.${event.seq}`);
    if (!same) found.push({ count: 'log', what: `${event.partition}.${event.seq} is not in the ledger` });
    else if (JSON.stringify(plain(event)) !== JSON.stringify(plain(same)))
      found.push({ count: 'log', what: `${event.partition}.${event.seq} is another event in the ledger` });
  }
  for (const [partition, head] of logHeads.entries()) {
    const last = events.findLast((event) => event.partition === partition)?.seq ?? 0;
    if (last !== head)
      found.push({
        count: 'log',
        what: `partition ${partition}: the log ends at ${head}, the ledger at ${last}`,
      });
  }
  return found;
}

function plain({ epoch, seq, id, streamId, version, type, data, meta }: RawEvent): unknown[] {
  return [epoch, seq, id, streamId, version, type, data, meta];
}

/** Each read model against a fold of the whole ledger by its own reducer. */
export function checkReadModels({ events, readModels, parked }: History): Violation[] {
  const found: Violation[] = [];
  if (parked > 0) found.push({ count: 'readModel', what: `${parked} events are parked` });
  for (const { projection, rows } of readModels) {
    const folded = foldBatch(projection, readBatch(projection, codec, events), {
      rows: new Map(),
      blocked: new Set(),
    });
    const actual = new Map(rows.map((row) => [row.id, row]));
    const columns = Object.keys(projection.columns);
    for (const id of new Set([...folded.rows.keys(), ...actual.keys()])) {
      const [expected, is] = [shown(folded.rows.get(id), columns), shown(actual.get(id), columns)];
      if (expected !== is)
        found.push({ count: 'readModel', what: `${projection.name} ${id}: is ${is}, should be ${expected}` });
    }
  }
  return found;
}

/** Columns in one order; dates as text. */
function shown(row: object | undefined, columns: readonly string[]): string {
  if (!row) return 'absent';
  const fields = new Map<string, unknown>(Object.entries(row));
  return JSON.stringify(columns.map((name) => fields.get(name) ?? null));
}
