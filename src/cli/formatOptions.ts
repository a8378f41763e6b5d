import { createOptions, type FormatOptions, type OptionDeclaration } from '../engine/manage/formatOptions';
import { knownFormat } from '../engine/manage/formats';
import { parseSize } from '../engine/manage/sizes';
import type { CommandLine, Context } from './commandLine';
import { CommandError } from './errors';
import { splitWords } from './keyValues';

/* `-o name=value,...`, given once or more often. */

/** Whether an option list asks for help. */
export function asksForHelp(lists: readonly string[]): boolean {
  return lists.some((list) => splitWords(list).some((word) => word === 'help' || word === '?'));
}

/**
 * The options of the lists, the last of a name winning. A word without a value is a switch.
 * @throws CommandError for a list with nothing between two commas
 */
export function readFormatOptions(lists: readonly string[]): FormatOptions {
  const options: Record<string, string> = {};
  for (const list of lists) {
    if (list === '' || list.startsWith(',') || /(?:^|[^,])(?:,,)*,$/.test(list)) {
      throw new CommandError(`Invalid option list: ${list}`);
    }
    for (const word of splitWords(list)) {
      const equals = word.indexOf('=');
      if (equals >= 0) {
        options[word.slice(0, equals)] = word.slice(equals + 1);
      } else if (word.startsWith('no') && word.length > 2 && word !== 'nocow') {
        options[word.slice(2)] = 'off';
      } else {
        options[word] = 'on';
      }
    }
  }
  return options;
}

/** The options that there are, by name, as QEMU's `-o help` prints them; our own are told of by `--help`. */
export function optionHelp(declarations: readonly OptionDeclaration[]): string {
  const types = { string: 'str', size: 'size', boolean: 'bool (on/off)', number: 'num' } as const;
  return declarations
    .filter(({ own }) => own !== true)
    .sort((left, right) => (left.name < right.name ? -1 : 1))
    .map(({ name, type, meaning }) => `  ${`${name}=<${types[type]}>`.padEnd(22)} - ${meaning}\n`)
    .join('');
}

/**
 * Prints the options that a new image may have: the exit code.
 * @param withFile a file was named: the options that files have are listed too
 * @throws CommandError for a format that no image can be made of
 */
export function printCreateOptions(formatName: string, withFile: boolean, { out }: Context): number {
  const format = knownFormat(formatName);
  const declared = createOptions(format, withFile);
  if (!declared) {
    throw new CommandError(`Format driver '${format}' does not support image creation`);
  }
  out.write(withFile ? 'Supported options:\n' : `Supported ${format} options:\n`);
  out.write(optionHelp(declared));
  if (!withFile) {
    out.write('\nThe protocol level may support further options.\nSpecify the target filename to include those options.\n');
  }
  return 0;
}

const MOST = 2n ** 63n - 1n;

/**
 * A size on the command line, in bytes.
 * @param what it is, for the message: `image size`, `granularity`
 * @throws CommandError in qemu-img's words
 */
export function readSizeArgument(text: string, what: string, program: string): number {
  const bytes = parseSize(text);
  if (bytes !== null && bytes > MOST) {
    throw new CommandError(`Invalid ${what} specified. Must be between 0 and ${MOST}.`);
  }
  if (bytes === null) {
    throw new CommandError(
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for\n${program}: kilobytes, megabytes, gigabytes, terabytes, ` +
        'petabytes and exabytes.',
    );
  }
  return Number(bytes);
}

/** `-r`: bytes in a second; 0, which is no limit, when it is not said. @throws CommandError in qemu-img's words */
export function readRate(line: CommandLine, { program }: Context): number {
  const rate = line.value('rate');
  return rate === null ? 0 : readSizeArgument(rate, 'rate limit', program);
}
