import type { Preallocation } from '../../engine/block/blockNode';
import { readSize } from '../../engine/manage/formatOptions';
import { resizeImage, ShrinkRefused } from '../../engine/manage/resize';
import { CommandLine, FORMAT, type Context } from '../commandLine';
import { CommandError, UsageError } from '../errors';
import { HelpRequest } from '../help';
import { manageContext, managedFile } from '../managing';

const MODES: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

/** `resize`: changes the size of a disk. Exit code 0, or 1 with nothing changed. */
export async function resize(args: readonly string[], context: Context): Promise<number> {
  // The size comes last, and may look like an option: `-1G`.
  const sizeText = args.at(-1) ?? '';
  if (args.length < 2) {
    throw sizeText === '--help' || sizeText === '-h' ? new HelpRequest('resize') : new UsageError('Not enough arguments');
  }
  const line = CommandLine.read(
    {
      command: 'resize',
      options: [
        FORMAT,
        { name: 'preallocation', long: 'preallocation', argument: true },
        { name: 'shrink', long: 'shrink' },
        { name: 'quiet', short: 'q' },
      ],
      without: ['force-share'],
      operands: [1, 1],
      expecting: 'Expecting image file name and size',
    },
    args.slice(0, -1),
    context,
  );
  const mode = line.value('preallocation') ?? 'off';
  const preallocation = MODES.find((known) => known === mode);
  if (preallocation === undefined) {
    throw new CommandError(`Invalid preallocation mode '${mode}'`);
  }
  const relative = /^[+-]/.exec(sizeText)?.[0] as '+' | '-' | undefined;
  const size = readSize('size', relative === undefined ? sizeText : sizeText.slice(1));
  const image = line.image(0);
  try {
    await resizeImage(
      managedFile(image),
      { size, relative, shrink: line.has('shrink'), preallocation },
      manageContext(line, image, context),
    );
  } catch (error) {
    throw error instanceof ShrinkRefused
      ? new CommandError(error.message, 1, `${context.program}: warning: ${error.place.remedy ?? ''}`, error)
      : error;
  }
  if (!line.has('quiet')) {
    context.out.write('Image resized.\n');
  }
  return 0;
}
