import type { QueueView } from '../../http/queues.ts';
import type { GroupStanding, ProjectionStanding } from '../../http/standing/schemas.ts';
import type { Column } from '../output/table.ts';
import { duration } from '../output/time.ts';

/** What is not known is said so: a zero would say that all is well. */
const known = (count: number | undefined) => (count === undefined ? '?' : String(count));
const age = (seconds: number | undefined) => (seconds === undefined ? '?' : duration(seconds * 1_000));
const behind = ({ lagEvents }: { readonly lagEvents?: number }) => (lagEvents ? 'yellow' : undefined);

export const groupColumns: readonly Column<GroupStanding>[] = [
  { title: 'GROUP', of: ({ id }) => id },
  { title: 'KIND', of: ({ kind }) => kind },
  {
    title: 'STATE',
    of: ({ paused, members }) =>
      paused ? 'paused' : !members ? '?' : members.length > 0 ? 'running' : 'nobody',
    colour: ({ paused, members }) => (paused || members?.length === 0 ? 'yellow' : undefined),
  },
  { title: 'OWNED', of: ({ owned, partitions }) => `${known(owned)} of ${partitions}`, right: true },
  { title: 'PROCESSES', of: ({ members }) => known(members?.length), right: true },
  {
    title: 'BEHIND',
    of: ({ kind, lagEvents }) => (kind === 'work' ? '' : known(lagEvents)),
    colour: behind,
    right: true,
  },
  {
    title: 'OLDEST',
    of: ({ kind, lagEvents, lagSeconds, oldestPendingSeconds: pending }) =>
      kind === 'work' ? (pending === undefined ? '' : age(pending)) : lagEvents === 0 ? '' : age(lagSeconds),
    right: true,
  },
  {
    title: 'PARKED',
    of: ({ kind, parked }) => (kind === 'projection' ? known(parked) : ''),
    colour: ({ parked }) => (parked ? 'red' : undefined),
    right: true,
  },
];

export const projectionColumns: readonly Column<ProjectionStanding>[] = [
  { title: 'NAME', of: ({ id }) => id },
  { title: 'VERSION', of: ({ version, current }) => `${version}${current ? '' : ' (another release)'}` },
  { title: 'TABLE', of: ({ table }) => table },
  { title: 'POSITION', of: ({ position }) => known(position), right: true },
  { title: 'TARGET', of: ({ target }) => known(target), right: true },
  { title: 'BEHIND', of: ({ lagEvents }) => known(lagEvents), colour: behind, right: true },
  {
    title: 'OLDEST',
    of: ({ lagEvents, lagSeconds }) => (lagEvents === 0 ? '' : age(lagSeconds)),
    right: true,
  },
  {
    title: 'PARKED',
    of: ({ parked, parkedRows }) => (parked ? `${parked} in ${known(parkedRows)} rows` : known(parked)),
    colour: ({ parked }) => (parked ? 'red' : undefined),
    right: true,
  },
  { title: 'STATE', of: stateOf },
];

function stateOf({ paused, rebuild, caughtUpAt }: ProjectionStanding): string {
  if (rebuild && !rebuild.endedAt)
    return `rebuild: ${rebuild.phase}, ${rebuild.position} of ${rebuild.target}`;
  if (paused) return 'paused';
  return caughtUpAt === undefined ? 'not complete yet' : 'live';
}

export const queueColumns = (now: number): readonly Column<QueueView>[] => [
  { title: 'QUEUE', of: ({ id }) => id },
  {
    title: 'STATE',
    of: ({ paused }) => (paused ? 'paused' : 'open'),
    colour: ({ paused }) => (paused ? 'yellow' : undefined),
  },
  { title: 'WAITING', of: ({ waiting }) => String(waiting), right: true },
  { title: 'RUNNING', of: ({ running }) => String(running), right: true },
  { title: 'SCHEDULED', of: ({ scheduled }) => String(scheduled), right: true },
  {
    title: 'OLDEST',
    of: ({ oldestWaitingAt }) => (oldestWaitingAt ? duration(now - Date.parse(oldestWaitingAt)) : ''),
    right: true,
  },
];
