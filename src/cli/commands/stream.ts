import { BlockGraph } from '../../engine/block/graph/blockGraph';
import { streamStep } from '../../engine/jobs/stream';
import { baseOf } from '../../engine/jobs/streamJob';
import type { StreamRequest } from '../../engine/jobs/streamJob';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { PACE, PROGRESS, RANGE, readRange } from '../jobOptions';
import { jobImage, readSettings, runJob } from '../jobs';
import { prettyJson } from '../json';
import { manageContext } from '../managing';
import type { ImageArgument } from '../imageArguments';

/**
 * `stream`: copies into an image what those have that it is built on, so that it needs them no more. With `--offset` and `--length` one step
 * of that: prints the offset of the next one. Exit code 0, 1, or 130 when it was interrupted.
 */
export async function stream(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'stream',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'base', short: 'b', long: 'base', argument: true },
        { name: 'bottom', long: 'bottom', argument: true },
        ...PACE,
        ...RANGE,
        ...PROGRESS,
      ],
      without: ['force-share'],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const output = line.output();
  const image = line.image(0);
  const request = await requestOf(line, image, context);
  if (line.has('offset') || line.has('length')) {
    await step(request, line, image, context);
    return 0;
  }
  await runJob(request, readSettings(line, context), image, line, context);
  if (output === 'human' && !line.has('quiet')) {
    context.out.write('Image streamed.\n');
  }
  return 0;
}

async function requestOf(line: CommandLine, image: ImageArgument, context: Context): Promise<StreamRequest> {
  return {
    type: 'stream',
    image: await jobImage(line, image, context),
    base: line.value('base'),
    bottom: line.value('bottom'),
    range: null,
  };
}

async function step(request: StreamRequest, line: CommandLine, argument: ImageArgument, context: Context): Promise<void> {
  for (const option of ['speed', 'idle', 'progress']) {
    if (line.has(option)) {
      throw new CommandError(`A single step takes no --${option}: whoever runs the steps decides when.`);
    }
  }
  const { gate, currentFolder, passphraseOf } = manageContext(line, argument, context);
  const graph = new BlockGraph({ gate, currentFolder });
  const { path, format } = request.image;
  const image = await graph.open(path, { format, readOnly: false, unchanged: true, user: 'a stream', passphraseOf });
  try {
    const { node } = image;
    const { offset, length } = readRange(line, context);
    const base = baseOf(request, image.chain(), currentFolder);
    const { advanced, copied } = await streamStep(node, base?.node ?? null, offset, length ?? node.size);
    await node.flush();
    const next = offset + advanced;
    context.out.write(line.output() === 'json' ? `${prettyJson({ 'next-offset': next, copied, size: node.size })}\n` : `${next}\n`);
  } finally {
    await image.close();
  }
}
