import { type JobId, parseStreamId } from '../domain/ids.ts';
import { RefusedError } from './changes.ts';

/** Throws `RefusedError` unless it is an id that a job can have. */
export function jobIdOf(text: string): JobId {
  const id: JobId | undefined = parseStreamId(text, 'job');
  if (!id) throw noSuchJob(text);
  return id;
}

export function noSuchJob(id: string): RefusedError {
  return new RefusedError('not_found', `There is no job ${id}.`);
}
