import { BitmapActionError, changeBitmap, type BitmapAction } from '../../engine/manage/bitmap';
import { CommandLine, FORMAT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { readSizeArgument } from '../formatOptions';
import { resolveImageArgument } from '../imageArguments';
import { manageContext, managedFile } from '../managing';
import type { Occurrence } from '../options';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;

/** `bitmap`: the persistent dirty bitmaps of an image. Exit code 0, or 1 when an action failed; those before it were done. */
export async function bitmap(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'bitmap',
      options: [
        FORMAT,
        { name: 'source-file', short: 'b', long: 'source-file', argument: true },
        { name: 'source-format', short: 'F', long: 'source-format', argument: true },
        { name: 'granularity', short: 'g', long: 'granularity', argument: true },
        ...ACTIONS.map((name) => ({ name, long: name, argument: name === 'merge' })),
      ],
      without: ['force-share'],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const given = line.value('granularity');
  const granularity = given === null ? null : readSizeArgument(given, 'granularity', context.program);
  const [, name] = line.operands;
  if (name === undefined || line.operands.length !== 2) {
    throw new CommandError('Expecting filename and bitmap name');
  }
  const actions = line.occurrences.flatMap((occurrence) => action(occurrence, granularity));
  if (actions.length === 0) {
    throw new CommandError('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge');
  }
  if (granularity !== null && !line.has('add')) {
    throw new CommandError('granularity only supported with --add');
  }
  const source = line.value('source-file');
  if (line.has('source-format') && source === null) {
    throw new CommandError('-F only supported with -b');
  }
  if (source !== null && !line.has('merge')) {
    throw new CommandError('Merge bitmap source file only supported with --merge');
  }
  const image = line.image(0);
  const mergeFrom =
    source === null
      ? null
      : managedFile(
          resolveImageArgument(source, {
            format: line.value('source-format'),
            imageOpts: false,
            forceShare: false,
            warn: () => undefined,
          }),
        );
  try {
    await changeBitmap(managedFile(image), name, actions, mergeFrom, manageContext(line, image, context));
  } catch (error) {
    throw error instanceof BitmapActionError
      ? new CommandError(`Operation ${error.action} on bitmap ${name} failed: ${error.message}`, 1, error.place.remedy ?? null, error)
      : error;
  }
  return 0;
}

/** `--disable` beside `--add` is an action of its own: the bitmap is made first, and then disabled. */
function action({ name, value }: Occurrence, granularity: number | null): BitmapAction[] {
  const kind = ACTIONS.find((known) => known === name);
  switch (kind) {
    case undefined:
      return [];
    case 'add':
      // 0 stands for what is usual.
      return [{ kind, granularity: granularity === 0 ? null : granularity, enabled: true }];
    case 'merge':
      return [{ kind, source: value }];
    default:
      return [{ kind }];
  }
}
