import { Command } from 'commander';
import { projectionPauseCommands } from '../groups/pause.ts';
import { rebuildCommands } from './rebuild.ts';

/** `millrace projections …` */
export function projectionsCommand(): Command {
  const group = new Command('projections').description('Read models.');
  rebuildCommands(group);
  projectionPauseCommands(group);
  return group;
}
