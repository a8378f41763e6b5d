import { EngineError } from '../engine/errors';
import type { Command, Context } from './commandLine';
import { CommandError, UsageError } from './errors';
import { HelpRequest, helpText, isCommand } from './help';
import { readOptions, type OptionSpec } from './options';
import { programName, version } from './program';
import { OutputStream } from './streams';

/* Every command is a module of its own that is loaded when it is called: starting costs what is used. */

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  create: async () => (await import('./commands/create')).create,
  info: async () => (await import('./commands/info')).info,
  snapshot: async () => (await import('./commands/snapshot')).snapshot,
  bitmap: async () => (await import('./commands/bitmap')).bitmap,
  amend: async () => (await import('./commands/amend')).amend,
  resize: async () => (await import('./commands/resize')).resize,
  measure: async () => (await import('./commands/measure')).measure,
  check: async () => (await import('./commands/check')).check,
  convert: async () => (await import('./commands/convert')).convert,
  rebase: async () => (await import('./commands/rebase')).rebase,
  commit: async () => (await import('./commands/commit')).commit,
  trim: async () => (await import('./commands/trim')).trim,
  allocate: async () => (await import('./commands/allocate')).allocate,
  allocation: async () => (await import('./commands/allocation')).allocation,
  stream: async () => (await import('./commands/stream')).stream,
  mirror: async () => (await import('./commands/mirror')).mirror,
  dd: async () => (await import('./commands/dd')).dd,
  compare: async () => (await import('./commands/compare')).compare,
  map: async () => (await import('./commands/map')).map,
  dump: async () => (await import('./commands/dump')).dump,
  locate: async () => (await import('./commands/locate')).locate,
  nbd: async () => (await import('./commands/nbd')).nbd,
};

const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'version', short: 'V', long: 'version' },
  { name: 'trace', short: 'T', long: 'trace', argument: true },
];

async function run(args: readonly string[], context: Context): Promise<number> {
  if (args.length === 0) {
    throw new UsageError('Not enough arguments');
  }
  const rest: string[] = [];
  for (const { name } of readOptions(GLOBAL_OPTIONS, args, rest, false)) {
    if (name === 'help') {
      throw new HelpRequest(null);
    } else if (name === 'version') {
      context.out.write(`${context.program} version ${version}\n`);
      return 0;
    }
  }
  const [name, ...operands] = rest;
  if (name === undefined) {
    return 0;
  }
  if (name === 'help') {
    throw new HelpRequest(requireCommand(operands[0] ?? null));
  }
  const load = COMMANDS[name];
  if (!load) {
    throw new UsageError(`Command not found: ${name}`);
  }
  const command = await load();
  return command(operands, context);
}

function requireCommand(name: string | null): string | null {
  if (name !== null && !isCommand(name)) {
    throw new UsageError(`Command not found: ${name}`);
  }
  return name;
}

/** Turns whatever ended a command into its exit code, and into a message on standard error. */
function conclude(error: unknown, { program, out, err }: Context): number {
  if (error instanceof HelpRequest) {
    out.write(helpText(program, error.command));
    return 0;
  }
  const message = error instanceof Error ? error.message : String(error);
  err.write(`${program}: ${message}\n`);
  if (error instanceof UsageError) {
    err.write(`Try '${program} --help' for more information\n`);
  }
  const remedy = error instanceof EngineError ? error.place.remedy : error instanceof CommandError ? error.remedy : null;
  if (remedy) {
    err.write(`${remedy}\n`);
  }
  if (error instanceof EngineError) {
    return 1;
  }
  if (error instanceof CommandError) {
    return error.exitCode;
  }
  err.write(`This is an error in ${program} itself:\n${error instanceof Error ? (error.stack ?? '') : ''}\n`);
  return 1;
}

/** `chainscope` with this process's arguments, to its exit code. */
export async function main(): Promise<void> {
  const context: Context = { program: programName(), out: new OutputStream(1), err: new OutputStream(2) };
  try {
    process.exitCode = await run(process.argv.slice(2), context);
  } catch (error) {
    process.exitCode = conclude(error, context);
  }
}
