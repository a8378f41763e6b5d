import { copyBlocks } from '../../engine/manage/dd';
import { CommandLine, FORMAT, warn, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { parseSize } from '../../engine/manage/sizes';
import { readSizeArgument } from '../formatOptions';
import { resolveImageArgument } from '../imageArguments';
import { manageContext, managedFile } from '../managing';

const MOST_BLOCK = 2 ** 31 - 1;
const DEFAULT_BLOCK = 512;

/** `dd`: copies a part of a disk into a new image. Exit code 0, or 1. */
export async function dd(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'dd',
      options: [FORMAT, { name: 'target-format', short: 'O', argument: true }],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const operands = readOperands(line.operands, context);
  const { input, target, blockSize } = operands;
  if (input === null || target === null) {
    throw new CommandError('Must specify both input and output files');
  }
  const image = resolveImageArgument(input, {
    format: line.value('format'),
    imageOpts: line.has('image-opts'),
    forceShare: line.forceShare,
    warn: (message) => warn(context, message),
  });
  const manage = manageContext(line, image, context);
  const reached = await copyBlocks(
    {
      source: { ...managedFile(image), forceShare: image.forceShare },
      target,
      format: line.value('target-format') ?? 'raw',
      blockSize,
      count: operands.count,
      skip: operands.skip,
    },
    manage,
  );
  if (!reached) {
    context.err.write(`${context.program}: ${input}: cannot skip to specified offset\n`);
  }
  return 0;
}

interface Operands {
  input: string | null;
  target: string | null;
  blockSize: number;
  count: number | null;
  skip: number;
}

function readOperands(words: readonly string[], { program }: Context): Operands {
  const operands: Operands = { input: null, target: null, blockSize: DEFAULT_BLOCK, count: null, skip: 0 };
  for (const word of words) {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = word.slice(equals + 1);
    switch (equals < 0 ? null : name) {
      case 'if':
        operands.input = value;
        break;
      case 'of':
        operands.target = value;
        break;
      case 'bs': {
        const bytes = parseSize(value);
        if (bytes !== null && (bytes < 1n || bytes > BigInt(MOST_BLOCK))) {
          throw new CommandError(`Invalid bs specified. Must be between 1 and ${MOST_BLOCK}.`);
        }
        operands.blockSize = readSizeArgument(value, 'bs', program);
        break;
      }
      case 'count':
        operands.count = readSizeArgument(value, 'count', program);
        break;
      case 'skip':
        operands.skip = readSizeArgument(value, 'skip', program);
        break;
      default:
        throw new CommandError(`unrecognized operand ${name}`);
    }
  }
  return operands;
}
