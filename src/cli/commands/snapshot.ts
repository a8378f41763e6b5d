import { EngineError } from '../../engine/errors';
import { qcow2Info } from '../../engine/info/qcow2Info';
import { applyImageSnapshot, createImageSnapshot, deleteImageSnapshot } from '../../engine/manage/snapshot';
import type { OptionSpec } from '../options';
import { CommandLine, type Context } from '../commandLine';
import { CommandError, UsageError } from '../errors';
import { openGuestChain } from '../guestChain';
import type { ImageArgument } from '../imageArguments';
import { snapshotTable } from '../infoText';
import { manageContext, managedFile } from '../managing';

const ACTIONS: readonly OptionSpec[] = [
  { name: 'list', short: 'l' },
  { name: 'create', short: 'c', argument: true },
  { name: 'apply', short: 'a', argument: true },
  { name: 'delete', short: 'd', argument: true },
];

/** `snapshot`: the internal snapshots of an image. Exit code 0, or 1 with nothing changed. */
export async function snapshot(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'snapshot',
      options: [...ACTIONS, { name: 'quiet', short: 'q' }],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const actions = line.occurrences.filter(({ name }) => ACTIONS.some((action) => action.name === name));
  if (actions.length > 1) {
    throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'");
  }
  if (line.operands.length !== 1) {
    throw new UsageError('Expecting one image file name');
  }
  const { name: action, value: name } = actions[0] ?? { name: 'list', value: '' };
  const image = line.image(0);
  if (action === 'list') {
    return list(image, context);
  }
  if (image.forceShare) {
    throw new CommandError(`Could not open '${image.argument}': force-share=on can only be used with read-only images`);
  }
  await change(action, name, line, image, context);
  return 0;
}

async function list(image: ImageArgument, context: Context): Promise<number> {
  const chain = await openGuestChain(image, 'all', context);
  try {
    const { source, detail } = chain.layers[0]!;
    const { snapshots = [] } = detail.format === 'qcow2' ? qcow2Info(source) : {};
    if (snapshots.length > 0) {
      context.out.write(['Snapshot list:', ...snapshotTable(snapshots), ''].join('\n'));
    }
    return 0;
  } finally {
    chain.close();
  }
}

async function change(action: string, name: string, line: CommandLine, image: ImageArgument, context: Context): Promise<void> {
  const file = managedFile(image);
  const engine = manageContext(line, image, context);
  switch (action) {
    case 'create':
      return tell(createImageSnapshot(file, name, engine), (error) => `Could not create snapshot '${name}': ${systemError(error)}`);
    case 'apply':
      return tell(applyImageSnapshot(file, name, engine), ({ message }) => `Could not apply snapshot '${name}': ${message}`);
    default:
      return tell(deleteImageSnapshot(file, { name }, engine), ({ message }) => `Could not delete snapshot '${name}': ${message}`);
  }
}

/** Of an operation that fails, what qemu-img says; that the image does not open is said as it is. */
async function tell(operation: Promise<void>, message: (error: EngineError) => string): Promise<void> {
  try {
    await operation;
  } catch (error) {
    if (!(error instanceof EngineError) || error.message.startsWith('Could not open')) {
      throw error;
    }
    const told = message(error);
    const reason = told.includes(error.message) ? [] : [error.message];
    throw new CommandError(
      told,
      1,
      [...reason, ...(error.place.remedy === undefined ? [] : [error.place.remedy])].join('\n') || null,
      error,
    );
  }
}

/** As qemu-img has it: a number of errno and its meaning. */
function systemError({ code, message }: EngineError): string {
  switch (code) {
    case 'request.unsupported':
      return message === 'Operation not supported' ? `-95 (${message})` : '-22 (Invalid argument)';
    case 'file.full':
      return '-28 (No space left on device)';
    case 'request.invalid':
      return '-27 (File too large)';
    default:
      return '-5 (Input/output error)';
  }
}
