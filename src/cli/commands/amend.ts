import { amendImage } from '../../engine/manage/amend';
import { amendOptions } from '../../engine/manage/formatOptions';
import { knownFormat } from '../../engine/manage/formats';
import { CommandLine, FORMAT, type Context } from '../commandLine';
import { CommandError, UsageError } from '../errors';
import { asksForHelp, optionHelp, readFormatOptions } from '../formatOptions';
import { openGuestChain } from '../guestChain';
import { manageContext, managedFile } from '../managing';
import { ProgressLine } from '../progress';

const CACHE_MODES = new Set(['none', 'off', 'writeback', 'writethrough', 'directsync', 'unsafe']);

/** `amend`: changes options of an image. Exit code 0, or 1. */
export async function amend(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'amend',
      options: [
        FORMAT,
        { name: 'options', short: 'o', argument: true },
        { name: 'cache', short: 't', argument: true },
        { name: 'quiet', short: 'q' },
        { name: 'progress', short: 'p' },
        { name: 'force', long: 'force' },
      ],
      without: ['force-share'],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const lists = line.all('options');
  if (lists.length === 0) {
    throw new UsageError('Must specify options (-o)');
  }
  const options = readFormatOptions(lists);
  const format = line.value('format');
  if (asksForHelp(lists) && format !== null) {
    return help(format, context);
  }
  if (line.operands.length !== 1) {
    throw new CommandError('Expecting one image file name');
  }
  const cache = line.value('cache');
  if (cache !== null && !CACHE_MODES.has(cache)) {
    throw new CommandError(`Invalid cache option: ${cache}`);
  }
  const image = line.image(0);
  if (asksForHelp(lists)) {
    return help(await formatOf(line, context), context);
  }
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !line.has('quiet'));
  progress.begin();
  try {
    await amendImage(managedFile(image), options, line.has('force'), {
      ...manageContext(line, image, context),
      secretOf: line.secretOf,
      onProgress: progress.report,
    });
    progress.complete();
  } finally {
    progress.end();
  }
  return 0;
}

/** The format of the image, by its first bytes. */
async function formatOf(line: CommandLine, context: Context): Promise<string> {
  const chain = await openGuestChain(line.image(0), 'all', context);
  chain.close();
  return chain.layers[0]!.detail.format;
}

function help(formatName: string, { out }: Context): number {
  const format = knownFormat(formatName);
  const declared = amendOptions(format);
  if (!declared) {
    throw new CommandError(`Format driver '${format}' does not support option amendment`);
  }
  out.write(`Amend options for '${format}':\n${optionHelp(declared)}`);
  return 0;
}
