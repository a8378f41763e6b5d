import { allocate as allocateRange } from '../../engine/allocation/allocate';
import { BlockGraph } from '../../engine/block/graph/blockGraph';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { interruptible } from '../interruption';
import { PROGRESS, RANGE, readRange } from '../jobOptions';
import { prettyJson } from '../json';
import { managedFile, manageContext } from '../managing';
import { ProgressLine } from '../progress';

/**
 * `allocate`: gives a range of a thin image space of its own, so that no write there fails for want of it. Exit code 0, 1, or 130 when it
 * was interrupted; what was allocated then stays.
 */
export async function allocate(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'allocate',
      options: [FORMAT, OUTPUT, ...RANGE, { name: 'mode', long: 'mode', argument: true }, ...PROGRESS],
      without: ['force-share'],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const output = line.output();
  const mode = line.value('mode') ?? 'zero';
  if (mode !== 'metadata' && mode !== 'zero') {
    throw new CommandError('--mode must be used with metadata or zero as argument.');
  }
  const argument = line.image(0);
  const { filename, format } = managedFile(argument);
  const { gate, currentFolder, passphraseOf } = manageContext(line, argument, context);
  const graph = new BlockGraph({ gate, currentFolder });
  const image = await graph.open(filename, { format, readOnly: false, unchanged: true, user: 'an allocation', passphraseOf });
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && output !== 'json');
  try {
    const { node } = image;
    const range = readRange(line, context);
    const { offset } = range;
    const length = range.length ?? Math.max(0, node.size - offset);
    if (offset + length > node.size) {
      throw new CommandError(`${length} bytes at offset ${offset} reach past the end of the disk of ${node.size} bytes.`);
    }
    progress.begin();
    const done = await interruptible('what was allocated stays.', (signal) =>
      allocateRange(node, mode, offset, length, { signal, onProgress: progress.report }),
    );
    progress.complete();
    if (output === 'json') {
      context.out.write(`${prettyJson({ offset, length, ...done })}\n`);
    } else if (!line.has('quiet')) {
      context.out.write('Range allocated.\n');
    }
    return 0;
  } finally {
    progress.end();
    await image.close();
  }
}
