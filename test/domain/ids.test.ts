import { describe, expect, it } from 'vitest';
import {
  exportOfJob,
  jobOfExport,
  kindOf,
  parseStreamId,
  partitionOf,
  streamId,
} from '../../src/domain/ids.ts';
import { formatPosition, parsePosition } from '../../src/domain/position.ts';

describe('a stream id', () => {
  it('says where its stream lives', () => {
    for (const partition of [0, 9, 35, 36, 1023]) {
      const id = streamId('job', partition, 'x'.repeat(20));
      expect(partitionOf(id)).toBe(partition);
      expect(kindOf(id)).toBe('job');
    }
  });

  it('is refused when it is not one', () => {
    for (const text of [
      '',
      'job',
      'job-',
      'cow-00aaaaaaaaaaaaaaaaaaaa',
      'job-00short',
      'job-00aaaaaaaaaaaaaaaaaaa!',
      `job-00${'a'.repeat(65)}`,
    ]) {
      expect(parseStreamId(text)).toBeUndefined();
    }
    expect(() => streamId('job', 0, 'short')).toThrow();
    expect(() => streamId('job', 1296, 'a'.repeat(20))).toThrow();
  });

  it('is refused when it is of another kind than asked for', () => {
    const id = streamId('job', 3, 'a'.repeat(20));
    expect(parseStreamId(id, 'exp')).toBeUndefined();
    expect(parseStreamId(id, 'exp', 'job')).toBe(id);
  });

  it('leads from an export to its job and back, in one partition', () => {
    const id = streamId('exp', 7, 'b'.repeat(20));
    expect(exportOfJob(jobOfExport(id))).toBe(id);
    expect(partitionOf(jobOfExport(id))).toBe(7);
  });
});

describe('a position', () => {
  it('survives the way to a client and back', () => {
    const position = { partition: 12, epoch: 3, seq: 987654321 };
    expect(parsePosition(formatPosition(position))).toEqual(position);
  });

  it('is refused when malformed', () => {
    for (const text of ['', '1.2', '1.2.3.4', 'a.b.c', '-1.2.3', '1.2.3 ', `1.1.${'9'.repeat(16)}`])
      expect(parsePosition(text)).toBeUndefined();
  });
});
