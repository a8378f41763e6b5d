import type { CommandLine, Context } from './commandLine';
import { readSizeArgument } from './formatOptions';
import type { OptionSpec } from './options';

/* Options that several commands on guest ranges, and those that run jobs, have alike. */

/** A range of the disk; see `readRange`. */
export const RANGE: readonly OptionSpec[] = [
  { name: 'offset', long: 'offset', argument: true },
  { name: 'length', long: 'length', argument: true },
];

/** How fast a job goes; see `readSettings`. */
export const PACE: readonly OptionSpec[] = [
  { name: 'speed', long: 'speed', argument: true },
  { name: 'idle', long: 'idle' },
];

/** What is told meanwhile. */
export const PROGRESS: readonly OptionSpec[] = [
  { name: 'progress', short: 'p' },
  { name: 'quiet', short: 'q' },
];

/** `--offset`, 0 when left out, and `--length`, null when left out. @throws CommandError */
export function readRange(line: CommandLine, context: Context): { readonly offset: number; readonly length: number | null } {
  const size = (name: string): number | null => {
    const text = line.value(name);
    return text === null ? null : readSizeArgument(text, name, context.program);
  };
  return { offset: size('offset') ?? 0, length: size('length') };
}
