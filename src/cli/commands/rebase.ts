import { rebaseImage } from '../../engine/manage/rebase';
import { CommandLine, FORMAT, isDurable, requireCacheMode, requireTargetCacheMode, type Context } from '../commandLine';
import { UsageError } from '../errors';
import { manageContext, managedFile } from '../managing';
import { ProgressLine } from '../progress';

/** `rebase`: builds an image on another backing file, or on none. Exit code 0, or 1. */
export async function rebase(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'rebase',
      options: [
        FORMAT,
        { name: 'backing', short: 'b', argument: true },
        { name: 'backing-format', short: 'F', argument: true },
        { name: 'unsafe', short: 'u' },
        { name: 'progress', short: 'p' },
        { name: 'quiet', short: 'q' },
        { name: 'cache', short: 't', argument: true },
        { name: 'source-cache', short: 'T', argument: true },
      ],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const unsafe = line.has('unsafe');
  if (!unsafe && !line.has('backing')) {
    throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)');
  }
  const cache = line.value('cache');
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !line.has('quiet'));
  progress.begin();
  try {
    requireTargetCacheMode(cache);
    requireCacheMode(line.value('source-cache'), 1);
    const image = line.image(0);
    await rebaseImage(
      {
        image: managedFile(image),
        backing: line.value('backing'),
        backingFormat: line.value('backing-format'),
        unsafe,
        forceShare: line.forceShare,
        durable: isDurable(cache ?? 'writeback'),
      },
      { ...manageContext(line, image, context), onProgress: progress.report },
    );
    progress.complete();
  } finally {
    progress.end();
  }
  return 0;
}
