import { Command } from 'commander';
import { projectionPauseCommands } from '../groups/pause.ts';
import { projectionsList } from '../standing/commands.ts';
import { rebuildCommands } from './rebuild.ts';

/** `millrace projections …` */
export function projectionsCommand(): Command {
  const group = new Command('projections').description('Read models.');
  projectionsList(group);
  rebuildCommands(group);
  projectionPauseCommands(group);
  return group;
}
