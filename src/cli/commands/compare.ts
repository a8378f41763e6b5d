import { compareChains, type Comparison } from '../../engine/chain/compare';
import type { OpenedChain } from '../../engine/chain/layer';
import type { Follow } from '../../engine/gate/policies';
import { CommandLine, FOLLOW, requireCacheMode, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { openGuestChain } from '../guestChain';
import { ProgressLine } from '../progress';

/** Exit codes of qemu-img compare. */
const EXIT = { identical: 0, different: 1, notOpened: 2, statusFailed: 3, readFailed: 4 } as const;

/** `compare`: whether a guest would read the same from two images. */
export async function compare(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'compare',
      options: [
        { name: 'format', short: 'f', argument: true },
        { name: 'second-format', short: 'F', argument: true },
        { name: 'cache', short: 'T', argument: true },
        { name: 'progress', short: 'p' },
        { name: 'quiet', short: 'q' },
        { name: 'strict', short: 's' },
        FOLLOW,
      ],
      operands: [2, 2],
      expecting: 'Expecting two image file names',
      trouble: EXIT.notOpened,
    },
    args,
    context,
  );
  requireCacheMode(line.value('cache'), EXIT.notOpened);
  const follow = line.follow() ?? 'all';
  const quiet = line.has('quiet');
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !quiet);
  try {
    const first = await open(line, 0, 'format', follow, context);
    try {
      const second = await open(line, 1, 'second-format', follow, context);
      try {
        progress.begin();
        const result = await compareOpened(first, second, line.has('strict'), progress);
        return report(result, line, quiet, progress, context);
      } finally {
        second.close();
      }
    } finally {
      first.close();
    }
  } finally {
    progress.end();
  }
}

async function open(line: CommandLine, index: number, formatOption: string, follow: Follow, context: Context): Promise<OpenedChain> {
  try {
    return await openGuestChain(line.image(index, formatOption), follow, context);
  } catch (error) {
    throw CommandError.from(error, EXIT.notOpened);
  }
}

async function compareOpened(first: OpenedChain, second: OpenedChain, strict: boolean, progress: ProgressLine): Promise<Comparison> {
  try {
    return await compareChains(first, second, { strict, onProgress: progress.report });
  } catch (error) {
    throw CommandError.from(error, EXIT.notOpened);
  }
}

function report(result: Comparison, line: CommandLine, quiet: boolean, progress: ProgressLine, { out }: Context): number {
  const say = (text: string) => {
    if (!quiet) {
      out.write(`${text}\n`);
    }
  };
  const name = (side: 'a' | 'b') => line.operands[side === 'a' ? 0 : 1] ?? '';
  if ('sizesDiffer' in result && result.sizesDiffer) {
    say('Warning: Image size mismatch!');
  }
  switch (result.kind) {
    case 'identical':
      progress.complete();
      say('Images are identical.');
      return EXIT.identical;
    case 'contentMismatch':
      say(`Content mismatch at offset ${result.guestOffset}!`);
      return EXIT.different;
    case 'sizeMismatch':
      say('Strict mode: Image size mismatch!');
      return EXIT.different;
    case 'statusMismatch':
      say(`Strict mode: Offset ${result.guestOffset} block status mismatch!`);
      return EXIT.different;
    case 'statusFailed':
      throw new CommandError(`Sector allocation test failed for ${name(result.side)}: ${result.error.message}`, EXIT.statusFailed);
    case 'readFailed':
      throw new CommandError(
        `Error while reading offset ${result.guestOffset} of ${name(result.side)}: ${result.error.message}`,
        EXIT.readFailed,
      );
  }
}
