import type { LayerView } from '../../protocol/place';
import { ACTIVE_VIEW } from '../../engine/chain/layerStatus';
import { EngineError } from '../../engine/errors';
import type { OpenedChain } from '../../engine/chain/layer';
import { readSnapshotTable } from '../../engine/formats/qcow2/snapshots';
import { measure as measureSource, measuredSource, type Measurement } from '../../engine/manage/measure';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { readFormatOptions, readSizeArgument } from '../formatOptions';
import { openGuestChain } from '../guestChain';
import { prettyJson } from '../json';
import { splitWords } from '../keyValues';

/** `measure`: how large a new image would be. Exit code 0, or 1 when that cannot be said. */
export async function measure(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'measure',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'target-format', short: 'O', argument: true },
        { name: 'options', short: 'o', argument: true },
        { name: 'snapshot', short: 'l', argument: true },
        { name: 'size', long: 'size', argument: true },
      ],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const options = readFormatOptions(line.all('options'));
  const output = line.output();
  const sizeText = line.value('size');
  const size = sizeText === null ? null : readSizeArgument(sizeText, 'image size', context.program);
  const [filename] = line.operands;
  if (line.operands.length > 1) {
    throw new CommandError('At most one filename argument is allowed.');
  }
  if (filename === undefined && (line.has('image-opts') || line.has('format') || line.has('snapshot'))) {
    throw new CommandError('--image-opts, -f, and -l require a filename argument.');
  }
  if (filename === undefined && size === null) {
    throw new CommandError('Either --size N or one filename must be specified.');
  }
  if (filename !== undefined && size !== null) {
    throw new CommandError('--size N cannot be used together with a filename.');
  }
  const chain = filename === undefined ? null : await openGuestChain(line.image(0), 'all', context);
  try {
    const source = chain ? await measuredSource(chain, viewOf(chain, line.value('snapshot'))) : (size ?? 0);
    const format = line.value('target-format') ?? 'raw';
    const measured = await measureSource({ format, options, source }, { secretOf: line.secretOf });
    context.out.write(output === 'json' ? json(measured) : text(measured));
    return 0;
  } catch (error) {
    throw error instanceof EngineError && error.message.startsWith('Invalid parameter')
      ? new CommandError(
          error.message,
          1,
          `${context.program}: Invalid options for file format '${line.value('target-format') ?? 'raw'}'`,
          error,
        )
      : error;
  } finally {
    chain?.close();
  }
}

/** `snapshot.id=ID,snapshot.name=NAME`, or an ID or name. @throws CommandError */
function viewOf(chain: OpenedChain, parameter: string | null): LayerView {
  if (parameter === null) {
    return ACTIVE_VIEW;
  }
  const { detail } = chain.layers[0]!;
  const snapshots = detail.format === 'qcow2' ? readSnapshotTable(detail.metadata).snapshots : [];
  const words = parameter.startsWith('snapshot.')
    ? new Map(splitWords(parameter).map((word) => word.split('=', 2) as [string, string]))
    : null;
  const index = words
    ? snapshots.findIndex(({ id, name }) => (words.get('snapshot.id') ?? id) === id && (words.get('snapshot.name') ?? name) === name)
    : Math.max(
        snapshots.findIndex(({ id }) => id === parameter),
        snapshots.some(({ id }) => id === parameter) ? -1 : snapshots.findIndex(({ name }) => name === parameter),
      );
  if (index < 0) {
    throw new CommandError("Failed to load snapshot: Can't find snapshot");
  }
  return { kind: 'snapshot', index };
}

function text({ required, fullyAllocated, bitmaps }: Measurement): string {
  return [
    `required size: ${required}`,
    `fully allocated size: ${fullyAllocated}`,
    ...(bitmaps === null ? [] : [`bitmaps size: ${bitmaps}`]),
    '',
  ].join('\n');
}

function json({ required, fullyAllocated, bitmaps }: Measurement): string {
  return `${prettyJson({ ...(bitmaps === null ? {} : { bitmaps }), required, 'fully-allocated': fullyAllocated })}\n`;
}
