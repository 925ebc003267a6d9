import { Command } from 'commander';
import { rebuildCommands } from './rebuild.ts';

/** `millrace projections …` */
export function projectionsCommand(): Command {
  const group = new Command('projections').description('Read models.');
  rebuildCommands(group);
  return group;
}
