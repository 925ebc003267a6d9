import { eventTypes } from '../domain/events.ts';

/** AsyncAPI 3.0 of the events, from the schemas that validate them. */
export function asyncApi() {
  const types = Object.entries(eventTypes);
  const named = (kind: string) =>
    Object.fromEntries(types.map(([type]) => [type, { $ref: `#/components/${kind}/${type}` }]));
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Millrace events',
      version: '1',
      description:
        'What is in the log and the ledger, and in an export of events. The order within a partition is by position.',
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    channels: {
      events: {
        address: null,
        description: 'Every event, in the streams of its partitions.',
        messages: named('messages'),
      },
    },
    operations: {
      receiveEvents: {
        action: 'receive',
        summary: 'Consumer groups read each partition in order.',
        channel: { $ref: '#/channels/events' },
      },
    },
    components: {
      messages: Object.fromEntries(
        types.map(([type, definition]) => [
          type,
          {
            name: type,
            title: type,
            summary: definition.summary,
            headers: { $ref: '#/components/schemas/Meta' },
            payload: { $ref: `#/components/schemas/${type}` },
            'x-schema-version': definition.schema,
          },
        ]),
      ),
      schemas: {
        Meta: META,
        ...Object.fromEntries(types.map(([type, { data }]) => [type, data])),
      },
    },
  };
}

const text = (description: string) => ({ type: 'string', description });

/** `EventMeta`, for readers: a type has no schema of its own to be made from. */
const META = {
  type: 'object',
  required: ['schema', 'at', 'actor', 'correlation'],
  properties: {
    schema: { type: 'integer', minimum: 1, description: 'Version of the shape of the data.' },
    at: {
      type: 'string',
      format: 'date-time',
      description: 'When it was decided. Order comes from the position.',
    },
    owner: text('The account whose event it is.'),
    actor: text('Who did it: an account, or system:<part>.'),
    correlation: text('Shared by all that follows from one request.'),
    causation: text('Id of the event that this one reacts to.'),
    traceparent: text('W3C trace context of the commit that wrote it.'),
  },
};
