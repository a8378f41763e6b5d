import { UsageError } from './errors';

/** One option of a command. */
export interface OptionSpec {
  /** What the command's code calls it. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  readonly long?: string;
  readonly argument?: boolean;
  /** An option that qemu-img has not: it may be abbreviated only where that makes no abbreviation of qemu-img's ambiguous. */
  readonly own?: boolean;
}

export interface Occurrence {
  readonly name: string;
  /** Empty for options without an argument. */
  readonly value: string;
}

/**
 * Reads a command's arguments as `getopt_long` does: combined short options, an argument attached or in the next word, long options
 * abbreviated as long as they are unique, options and operands in any order, everything after `--` an operand. Occurrences come in the
 * order in which they stand, so that `--help` before a mistake is help and after it is a mistake. Operands are pushed onto `operands`,
 * which is complete when the generator is.
 *
 * @param permute false: the first operand ends the options, as for those before the command's name
 * @throws UsageError
 */
export function* readOptions(
  specs: readonly OptionSpec[],
  args: readonly string[],
  operands: string[],
  permute = process.env['POSIXLY_CORRECT'] === undefined,
): Generator<Occurrence, void, undefined> {
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      break;
    } else if (word.startsWith('--')) {
      yield longOption(specs, word, rest);
    } else if (word.length > 1 && word.startsWith('-')) {
      yield* shortOptions(specs, word, rest);
    } else {
      operands.push(word);
      if (!permute) {
        break;
      }
    }
  }
  operands.push(...rest);
}

function longOption(specs: readonly OptionSpec[], word: string, rest: string[]): Occurrence {
  const equals = word.indexOf('=');
  const typed = equals < 0 ? word.slice(2) : word.slice(2, equals);
  const spec = findLong(specs, typed);
  if (!spec || (equals >= 0 && !spec.argument)) {
    throw new UsageError(`unrecognized option '${word}'`);
  }
  if (!spec.argument) {
    return { name: spec.name, value: '' };
  }
  return { name: spec.name, value: equals < 0 ? nextWord(word, rest) : word.slice(equals + 1) };
}

function findLong(specs: readonly OptionSpec[], typed: string): OptionSpec | undefined {
  const exact = specs.find(({ long }) => long === typed);
  if (exact) {
    return exact;
  }
  const matching = specs.filter(({ long }) => long?.startsWith(typed));
  const standard = matching.filter(({ own }) => !own);
  const candidates = standard.length > 0 ? standard : matching;
  return candidates.length === 1 ? candidates[0] : undefined;
}

function* shortOptions(specs: readonly OptionSpec[], word: string, rest: string[]): Generator<Occurrence, void, undefined> {
  for (let index = 1; index < word.length; index++) {
    const spec = specs.find(({ short }) => short === word[index]);
    if (!spec) {
      throw new UsageError(`unrecognized option '${word}'`);
    }
    if (!spec.argument) {
      yield { name: spec.name, value: '' };
      continue;
    }
    yield { name: spec.name, value: index + 1 < word.length ? word.slice(index + 1) : nextWord(word, rest) };
    return;
  }
}

function nextWord(option: string, rest: string[]): string {
  const word = rest.shift();
  if (word === undefined) {
    throw new UsageError(`missing argument for option '${option}'`);
  }
  return word;
}
