import { Command } from 'commander';
import { groupsList } from '../standing/commands.ts';
import { pauseCommands } from './pause.ts';
import { seekCommand } from './seek.ts';

/** `millrace groups …` */
export function groupsCommand(): Command {
  const groups = new Command('groups').description(
    'What reads the log in order: the ledger, projections, reactors.',
  );
  groupsList(groups);
  pauseCommands(groups, (name) => name, {
    what: 'group',
    pause: 'a consumer group: it applies nothing more, in any process, until it is resumed',
    resume: 'a consumer group: it goes on where it stands',
    example: 'notifier',
  });
  seekCommand(groups);
  return groups;
}
