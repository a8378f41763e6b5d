import { openChain } from '../../engine/chain/openChain';
import { BlockGraph } from '../../engine/block/graph/blockGraph';
import { filesOf } from '../../engine/block/graph/layerFiles';
import { JobManager } from '../../engine/jobs/jobManager';
import type { GuestRange, JobRequest } from '../../protocol/jobs';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import type { ImageArgument } from '../imageArguments';
import { PACE, PROGRESS, RANGE, readRange } from '../jobOptions';
import { jobImage, readSettings, runJob } from '../jobs';
import { prettyJson } from '../json';
import { manageContext } from '../managing';

/**
 * `trim`: gives back the space of clusters that hold nothing but zeroes. Exit code 0, 1, or 130 when it was interrupted; what was given back
 * then is.
 */
export async function trim(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'trim',
      options: [FORMAT, OUTPUT, ...RANGE, ...PACE, { name: 'dry-run', short: 'n', long: 'dry-run' }, ...PROGRESS],
      without: ['force-share'],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const image = line.image(0);
  const request: TrimRequest = { type: 'trim', image: await jobImage(line, image, context), range: rangeOf(line, context) };
  if (line.has('dry-run')) {
    await preview(request, image, line, context);
    return 0;
  }
  const actualSize = () => actualSizeOf(request, image, line, context);
  const before = await actualSize();
  await runJob(request, readSettings(line, context), image, line, context, async () => ({
    'actual-size-before': before,
    'actual-size': await actualSize(),
  }));
  if (line.output() === 'human' && !line.has('quiet')) {
    context.out.write(`${Math.max(0, before - (await actualSize()))} bytes given back.\n`);
  }
  return 0;
}

type TrimRequest = Extract<JobRequest, { type: 'trim' }>;

function rangeOf(line: CommandLine, context: Context): GuestRange | null {
  const { offset, length } = readRange(line, context);
  return offset === 0 && length === null ? null : { offset, length: length ?? Number.MAX_SAFE_INTEGER - offset };
}

async function preview(request: TrimRequest, image: ImageArgument, line: CommandLine, context: Context): Promise<void> {
  const { gate, currentFolder, passphraseOf } = manageContext(line, image, context);
  const graph = new BlockGraph({ gate, currentFolder });
  const { zeroes } = await new JobManager({ graph: () => graph, gate, currentFolder, passphraseOf }).preview(request);
  const { bytes, bytesRead } = zeroes!;
  context.out.write(
    line.output() === 'json'
      ? `${prettyJson({ 'bytes-read': bytesRead, 'zero-bytes': bytes })}\n`
      : `${bytes} of the ${bytesRead} bytes that take space hold nothing but zeroes.\n`,
  );
}

/** What the files of an image take on the disk, in bytes. */
async function actualSizeOf({ image: { path, format } }: TrimRequest, image: ImageArgument, line: CommandLine, context: Context) {
  const { gate, currentFolder } = manageContext(line, image, context);
  const chain = await openChain(path, { gate, currentFolder, format, locks: null });
  try {
    return filesOf(chain.layers[0]!).reduce((bytes, file) => bytes + file.allocatedBytes, 0);
  } finally {
    chain.close();
  }
}
