import { describe, expect, test } from 'vitest';
import { UsageError } from '../../../src/cli/errors';
import { readOptions, type OptionSpec } from '../../../src/cli/options';

const SPECS: readonly OptionSpec[] = [
  { name: 'help', short: 'h', long: 'help' },
  { name: 'format', short: 'f', long: 'format', argument: true },
  { name: 'output', long: 'output', argument: true },
  { name: 'force-share', short: 'U', long: 'force-share' },
  { name: 'quiet', short: 'q' },
  { name: 'follow', long: 'follow', argument: true, own: true },
];

function read(args: readonly string[], permute?: boolean): { options: string[]; operands: string[] } {
  const operands: string[] = [];
  const options = [...readOptions(SPECS, args, operands, permute ?? true)].map(({ name, value }) =>
    value === '' ? name : `${name}=${value}`,
  );
  return { options, operands };
}

describe('arguments are read as getopt_long reads them', () => {
  test.each<[string, readonly string[], readonly string[], readonly string[]]>([
    ['an argument in the next word', ['-f', 'raw', 'x'], ['format=raw'], ['x']],
    ['an argument attached', ['-fraw', 'x'], ['format=raw'], ['x']],
    ['an equals sign is part of a short option’s argument', ['-f=raw'], ['format==raw'], []],
    ['combined, the last with an argument', ['-qUfraw', 'x'], ['quiet', 'force-share', 'format=raw'], ['x']],
    ['combined, the argument in the next word', ['-qf', 'raw'], ['quiet', 'format=raw'], []],
    ['long with equals', ['--output=json', 'x'], ['output=json'], ['x']],
    ['long with the next word', ['--output', 'json'], ['output=json'], []],
    ['an empty argument', ['--output='], ['output'], []],
    ['an argument that looks like an option', ['-f', '-q'], ['format=-q'], []],
    ['abbreviated', ['--out=json', '--forma', 'raw', '--forc'], ['output=json', 'format=raw', 'force-share'], []],
    ['operands between options', ['a', '-q', 'b', '-U'], ['quiet', 'force-share'], ['a', 'b']],
    ['nothing is an option after --', ['-q', '--', '-U', '--', 'a'], ['quiet'], ['-U', '--', 'a']],
    ['a single dash is an operand', ['-', '-q'], ['quiet'], ['-']],
    ['an empty word is an operand', ['', '-q'], ['quiet'], ['']],
    ['the last of several stays visible in order', ['-f', 'a', '-f', 'b'], ['format=a', 'format=b'], []],
    ['our own option in full', ['--follow=none'], ['follow=none'], []],
    ['our own option abbreviated where qemu-img has nothing like it', ['--fol=none'], ['follow=none'], []],
  ])('%s', (_, args, options, operands) => {
    expect(read(args)).toEqual({ options, operands });
  });

  test('an abbreviation that is qemu-img’s stays so although an option of ours begins alike', () => {
    const specs: OptionSpec[] = [
      { name: 'force-share', long: 'force-share' },
      { name: 'follow', long: 'follow', argument: true, own: true },
    ];
    expect([...readOptions(specs, ['--fo'], [])]).toEqual([{ name: 'force-share', value: '' }]);
  });

  test('where the first operand ends the options, what follows is left alone', () => {
    expect(read(['-q', 'info', '-f', 'raw'], false)).toEqual({ options: ['quiet'], operands: ['info', '-f', 'raw'] });
  });

  test.each<[readonly string[], string]>([
    [['-z'], "unrecognized option '-z'"],
    [['-qz'], "unrecognized option '-qz'"],
    [['--bogus'], "unrecognized option '--bogus'"],
    [['--help=yes'], "unrecognized option '--help=yes'"],
    [['--for'], "unrecognized option '--for'"],
    [['-f'], "missing argument for option '-f'"],
    [['-qf'], "missing argument for option '-qf'"],
    [['--format'], "missing argument for option '--format'"],
  ])('%j is refused', (args, message) => {
    expect(() => read(args)).toThrow(new UsageError(message));
  });

  test('what stands before a mistake was read', () => {
    const seen: string[] = [];
    expect(() => {
      for (const { name } of readOptions(SPECS, ['-h', '-z'], [])) {
        seen.push(name);
      }
    }).toThrow(UsageError);
    expect(seen).toEqual(['help']);
  });
});
