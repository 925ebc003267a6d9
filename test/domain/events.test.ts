import { Type } from 'typebox';
import { describe, expect, it } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import {
  codec,
  createCodec,
  EventDecodeError,
  eventTypes,
  UnknownEventError,
} from '../../src/domain/events.ts';
import type { EventId, StreamId } from '../../src/domain/ids.ts';

function raw(type: string, data: unknown, schema = 1): RawEvent {
  return {
    partition: 0,
    epoch: 1,
    seq: 1,
    version: 1,
    type,
    id: 'e1' as EventId,
    streamId: 'acc-00aaaaaaaaaaaaaaaaaaaa' as StreamId,
    data: JSON.stringify(data),
    meta: JSON.stringify({ schema, at: '2026-01-01T00:00:00.000Z', actor: 'a', correlation: 'c' }),
  };
}

describe('the event codec', () => {
  it('gives an event its type and its data', () => {
    const event = codec.decode(raw('EmailClaimed', { accountId: 'acc-00a' }));
    expect(event).toMatchObject({
      type: 'EmailClaimed',
      data: { accountId: 'acc-00a' },
      meta: { actor: 'a' },
    });
  });

  it('upcasts what older code wrote, step by step', () => {
    const renamed = createCodec({
      EmailClaimed: {
        schema: 3,
        data: Type.Object({ owner: Type.Object({ id: Type.String() }) }),
        summary: '',
        upcast: {
          1: (data) => ({ owner: (data as { accountId: string }).accountId }),
          2: (data) => ({ owner: { id: (data as { owner: string }).owner } }),
        },
      },
    });
    expect(renamed.decode(raw('EmailClaimed', { accountId: 'x' }, 1)).data).toEqual({ owner: { id: 'x' } });
    expect(renamed.decode(raw('EmailClaimed', { owner: 'y' }, 2)).data).toEqual({ owner: { id: 'y' } });
    expect(renamed.decode(raw('EmailClaimed', { owner: { id: 'z' } }, 3)).data).toEqual({
      owner: { id: 'z' },
    });
  });

  it('leaves what newer code wrote to newer code', () => {
    expect(() => codec.decode(raw('EmailClaimed', { accountId: 'x' }, 2))).toThrow(UnknownEventError);
    expect(() => codec.decode(raw('MoonLanded', {}))).toThrow(UnknownEventError);
    expect(() => codec.decode(raw('constructor', {}))).toThrow(UnknownEventError);
  });

  it('refuses data that is not what its type promises', () => {
    expect(() => codec.decode(raw('EmailClaimed', { accountId: 7 }))).toThrow(EventDecodeError);
    expect(() => codec.decode({ ...raw('EmailClaimed', {}), data: '{' })).toThrow(EventDecodeError);
    expect(() => codec.check('EmailClaimed', {})).toThrow(/accountId/);
  });

  it('can upcast every event from its first schema on', () => {
    for (const [type, { schema, upcast }] of Object.entries(eventTypes)) {
      for (let from = 1; from < schema; from++)
        expect(upcast?.[from], `${type} ${from}`).toBeTypeOf('function');
    }
  });
});
