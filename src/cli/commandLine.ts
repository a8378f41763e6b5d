import type { OutputStream } from './streams';
import { CommandError, UsageError } from './errors';
import { HelpRequest } from './help';
import { resolveImageArgument, type ImageArgument } from './imageArguments';
import { ObjectDefinitions, type TlsCredentials } from './objectDefinitions';
import { readOptions, type Occurrence, type OptionSpec } from './options';

/** What a command is given beside its arguments. */
export interface Context {
  /** What messages begin with. */
  readonly program: string;
  readonly out: OutputStream;
  readonly err: OutputStream;
}

/** A command returns its exit code; errors that it throws become a message. */
export type Command = (args: readonly string[], context: Context) => Promise<number>;

export function warn({ err, program }: Context, message: string): void {
  err.write(`${program}: warning: ${message}\n`);
}

/** Options that every command has that opens images. */
const IMAGE_OPTIONS: readonly OptionSpec[] = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'object', long: 'object', argument: true },
  { name: 'image-opts', long: 'image-opts' },
  { name: 'force-share', short: 'U', long: 'force-share' },
];

export interface CommandLineSpec {
  /** The command's name, for its help. */
  readonly command: string;
  readonly options: readonly OptionSpec[];
  /** How many operands there must be, and what to say when there are more or fewer. */
  readonly operands: readonly [least: number, most: number];
  readonly expecting: string;
  /** Options that commands usually have, by their names, and this one has not. */
  readonly without?: readonly ('image-opts' | 'force-share')[];
  /** Exit code for an object or an image that is wrongly described; compare's 1 means something else. */
  readonly trouble?: number;
}

/** A command's arguments, read and sorted. */
export class CommandLine {
  readonly operands: readonly string[];
  readonly forceShare: boolean;
  /** Every option as it was given, in that order. */
  readonly occurrences: readonly Occurrence[];
  private readonly values: ReadonlyMap<string, string>;
  private readonly objects: ObjectDefinitions;
  private readonly context: Context;

  private constructor(operands: readonly string[], occurrences: readonly Occurrence[], objects: ObjectDefinitions, context: Context) {
    const values = new Map(occurrences.map(({ name, value }) => [name, value]));
    this.operands = operands;
    this.occurrences = occurrences;
    this.values = values;
    this.objects = objects;
    this.context = context;
    this.forceShare = values.has('force-share');
  }

  /**
   * @throws UsageError, CommandError
   * @throws HelpRequest when help is asked for before any mistake
   */
  static read(spec: CommandLineSpec, args: readonly string[], context: Context): CommandLine {
    const operands: string[] = [];
    const occurrences: Occurrence[] = [];
    const objects = new ObjectDefinitions(spec.trouble ?? 1);
    const common = IMAGE_OPTIONS.filter(({ name }) => !spec.without?.some((other) => other === name));
    for (const { name, value } of readOptions([...common, ...spec.options], args, operands)) {
      if (name === 'help') {
        throw new HelpRequest(spec.command);
      }
      if (name === 'object') {
        objects.add(value);
      }
      occurrences.push({ name, value });
    }
    const [least, most] = spec.operands;
    if (operands.length < least || operands.length > most) {
      throw new UsageError(spec.expecting);
    }
    return new CommandLine(operands, occurrences, objects, context);
  }

  has(option: string): boolean {
    return this.values.has(option);
  }

  /** Null when the option was not given; its last value when it was given more than once. */
  value(option: string): string | null {
    return this.values.get(option) ?? null;
  }

  /** All values of an option that may be given more than once, in their order. */
  all(option: string): readonly string[] {
    return this.occurrences.filter(({ name }) => name === option).map(({ value }) => value);
  }

  /** The secret that `--object` defined under an ID; null when there is none. */
  readonly secretOf = (id: string): Uint8Array | null => this.objects.secret(id);

  /** The certificates that `--object` named under an ID. @throws CommandError, EngineError */
  readonly tlsCredentialsOf = (id: string): TlsCredentials => this.objects.tlsCredentials(id);

  /** `--output`; @throws CommandError */
  output(): 'human' | 'json' {
    const output = this.value('output') ?? 'human';
    if (output !== 'human' && output !== 'json') {
      throw new CommandError('--output must be used with human or json as argument.');
    }
    return output;
  }

  /** `--follow`; @throws CommandError */
  follow(): 'none' | 'local' | 'all' | null {
    const follow = this.value('follow');
    if (follow !== null && follow !== 'none' && follow !== 'local' && follow !== 'all') {
      throw new CommandError('--follow must be used with none, local or all as argument.');
    }
    return follow;
  }

  /** An operand as an image, in the format that `formatOption` names. @throws CommandError */
  image(index: number, formatOption = 'format'): ImageArgument {
    return resolveImageArgument(this.operands[index] ?? '', {
      format: this.value(formatOption),
      imageOpts: this.has('image-opts'),
      forceShare: this.forceShare,
      warn: (message) => warn(this.context, message),
    });
  }
}

export const FORMAT: OptionSpec = { name: 'format', short: 'f', long: 'format', argument: true };
export const OUTPUT: OptionSpec = { name: 'output', long: 'output', argument: true };
export const FOLLOW: OptionSpec = { name: 'follow', long: 'follow', argument: true, own: true };

/** QEMU's names for the ways to go through the page cache; this program always goes through it. */
const CACHE_MODES = new Set(['none', 'off', 'writeback', 'writethrough', 'directsync', 'unsafe']);

/** @throws CommandError when `-T` names no cache mode */
export function requireCacheMode(mode: string | null, exitCode: number): void {
  if (mode !== null && !CACHE_MODES.has(mode)) {
    throw new CommandError(`Invalid source cache option: ${mode}`, exitCode);
  }
}

/** @throws CommandError when `-t` names no cache mode */
export function requireTargetCacheMode(mode: string | null): void {
  if (mode !== null && !CACHE_MODES.has(mode)) {
    throw new CommandError(`Invalid cache option: ${mode}`);
  }
}

/** Whether what is written in that cache mode is flushed. */
export function isDurable(mode: string): boolean {
  return mode !== 'unsafe';
}
