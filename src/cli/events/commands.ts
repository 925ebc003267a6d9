import { Command, InvalidArgumentError } from 'commander';
import { parseStreamId, type StreamId } from '../../domain/ids.ts';
import { examples } from '../examples.ts';
import { listOptions } from '../output/pages.ts';
import { readTime } from '../output/time.ts';
import { readEvents } from './read.ts';
import { showStream } from './stream.ts';
import { tailEvents } from './tail.ts';

/** `millrace events …` */
export function eventsCommand(): Command {
  const events = new Command('events').description('All that ever happened, in whichever stream.');
  listOptions(
    filterOptions(
      examples(events.command('read'), [
        ['millrace events read --correlation req-1a --all', 'all that followed from one request'],
        ['millrace events read --type JobDeadLettered --from 2h --all --json | jq .data.error', ''],
      ])
        .description(
          'Read events, the oldest first, from files, ledger and log alike. While Redis is away: what the ledger has.',
        )
        .option('--to <time>', 'before', readTime),
    ),
    'print each event as a line of JSON',
  ).action(readEvents);
  filterOptions(
    examples(events.command('tail'), [
      ['millrace events tail', 'what happens from now on'],
      ['millrace events tail --type JobDeadLettered --from 10m --json', ''],
    ]).description('Follow events as they are committed, until you end it.'),
  )
    .option('--json', 'print each event as a line of JSON')
    .action(tailEvents);
  return events;
}

/** `millrace streams …` */
export function streamsCommand(): Command {
  const streams = new Command('streams').description('What happened to one thing.');
  listOptions(
    examples(streams.command('show'), [
      ['millrace streams show job-0fA1b2C3d4E5f6G7h8I9j0', ''],
      ['millrace streams show queue-00656d61696c000000 --all --json', ''],
    ])
      .description('Show the events of a stream, the oldest first, from files, ledger and log alike.')
      .argument('<id>', 'of the stream', readId),
    'print each event as a line of JSON',
  ).action(showStream);
  return streams;
}

function filterOptions(command: Command): Command {
  return command
    .option('--type <type>', 'only those of a type')
    .option('--correlation <id>', 'only what follows from one request')
    .option('--stream <id>', 'only those of a stream', readId)
    .option('--from <time>', 'at or after: RFC 3339, or 15m, 2h, 7d ago', readTime);
}

function readId(text: string): StreamId {
  const id = parseStreamId(text);
  if (!id) throw new InvalidArgumentError('It is no id of a stream.');
  return id;
}
