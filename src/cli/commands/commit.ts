import { commitImage } from '../../engine/manage/commit';
import { CommandLine, FORMAT, isDurable, requireTargetCacheMode, type Context } from '../commandLine';
import { readRate } from '../formatOptions';
import { manageContext, managedFile } from '../managing';
import { ProgressLine } from '../progress';

/** `commit`: copies what an image holds into one that it is built on. Exit code 0, or 1. */
export async function commit(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'commit',
      options: [
        FORMAT,
        { name: 'base', short: 'b', argument: true },
        { name: 'drop', short: 'd' },
        { name: 'progress', short: 'p' },
        { name: 'quiet', short: 'q' },
        { name: 'cache', short: 't', argument: true },
        { name: 'rate', short: 'r', argument: true },
      ],
      without: ['force-share'],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const speed = readRate(line, context);
  const cache = line.value('cache');
  requireTargetCacheMode(cache);
  const image = line.image(0);
  const quiet = line.has('quiet');
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !quiet);
  progress.begin();
  try {
    const base = line.value('base');
    await commitImage(
      // With a base of its own choice an image in between would be left with data that is not its own any more.
      { image: managedFile(image), base, keep: line.has('drop') || base !== null, durable: isDurable(cache ?? 'writeback'), speed },
      { ...manageContext(line, image, context), onProgress: progress.report },
    );
    progress.complete();
  } finally {
    progress.end();
  }
  if (!quiet) {
    context.out.write('Image committed.\n');
  }
  return 0;
}
