import { planImage } from '../../engine/manage/create';
import { EngineError } from '../../engine/errors';
import { followGate } from '../../engine/gate/policies';
import { CommandLine, FORMAT, type Context } from '../commandLine';
import { CommandError, UsageError } from '../errors';
import { asksForHelp, printCreateOptions, readFormatOptions, readSizeArgument } from '../formatOptions';

/** `create`: makes an image. Exit code 0, or 1 with no image made. */
export async function create(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'create',
      options: [
        FORMAT,
        { name: 'backing', short: 'b', argument: true },
        { name: 'backing-format', short: 'F', argument: true },
        { name: 'unsafe', short: 'u' },
        { name: 'options', short: 'o', argument: true },
        { name: 'quiet', short: 'q' },
      ],
      without: ['image-opts', 'force-share'],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const format = line.value('format') ?? 'raw';
  const lists = line.all('options');
  const [filename, sizeText, extra] = line.operands;
  if (asksForHelp(lists)) {
    return printCreateOptions(format, filename !== undefined, context);
  }
  if (filename === undefined) {
    throw new UsageError('Expecting image file name');
  }
  const options = readFormatOptions(lists);
  const size = sizeText === undefined ? null : readSizeArgument(sizeText, 'image size', context.program);
  if (extra !== undefined) {
    throw new UsageError(`Unexpected argument: ${extra}`);
  }
  try {
    const planned = await planImage(
      {
        filename,
        format,
        size,
        backing: { name: line.value('backing'), format: line.value('backing-format') },
        options,
        withoutBacking: line.has('unsafe'),
      },
      { gate: followGate('all'), currentFolder: process.cwd(), secretOf: line.secretOf },
    );
    if (!line.has('quiet')) {
      context.out.write(`Formatting '${filename}', ${planned.description}\n`);
    }
    await planned.make();
  } catch (error) {
    throw error instanceof EngineError ? new CommandError(`${filename}: ${error.message}`, 1, error.place.remedy ?? null, error) : error;
  }
  return 0;
}
