import { openReader, type ChainExtent } from '../../engine/block/node';
import { Pace } from '../../engine/pace';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { readSizeArgument } from '../formatOptions';
import { openGuestChain } from '../guestChain';
import { prettyJson } from '../json';

/** `allocation`: which ranges of a disk have space in the image itself, where, and which layer supplies the others. */
export async function allocation(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'allocation',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'offset', long: 'offset', argument: true },
        { name: 'length', long: 'length', argument: true },
        FOLLOW,
      ],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const json = line.output() === 'json';
  const chain = await openGuestChain(line.image(0), line.follow() ?? 'all', context);
  try {
    const reader = openReader(chain);
    const size = (name: string, standard: number) => {
      const text = line.value(name);
      return text === null ? standard : readSizeArgument(text, name, context.program);
    };
    const offset = size('offset', 0);
    const end = offset + size('length', Math.max(0, reader.size - offset));
    if (end > reader.size) {
      throw new CommandError(`The range ends at ${end}, past the end of the disk of ${reader.size} bytes.`);
    }
    const pace = new Pace();
    const rows: AllocatedRange[] = [];
    for (let at = offset; at < end;) {
      const extent = reader.blockStatus(at, end - at);
      rows.push(rangeOf(at, extent, extent.depth === null ? null : chain.layers[extent.depth]!.filename));
      at += extent.length;
      if (pace.due()) {
        await pace.turn(at - offset, end - offset);
      }
    }
    context.out.write(json ? `${prettyJson(rows.map((row) => ({ ...row })))}\n` : rows.map(textOf).join(''));
    return 0;
  } finally {
    chain.close();
  }
}

interface AllocatedRange {
  /** Guest bytes. */
  readonly start: number;
  readonly length: number;
  /** In the image itself. */
  readonly allocated: boolean;
  readonly class: ChainExtent['class'];
  /** Layer that supplies the bytes, the image itself being 0; null where none does. */
  readonly depth: number | null;
  readonly filename: string | null;
  /** Where they lie in that layer's file; null where they have no place. */
  readonly offset: number | null;
}

function rangeOf(start: number, extent: ChainExtent, filename: string | null): AllocatedRange {
  const { length, class: kind, depth, hostOffset } = extent;
  return { start, length, allocated: depth === 0, class: kind, depth, filename, offset: hostOffset };
}

function textOf({ start, length, allocated, class: kind, filename, offset }: AllocatedRange): string {
  const place = filename === null ? '' : ` ${filename}${offset === null ? '' : ` at ${offset}`}`;
  return `${start} ${length} ${allocated ? 'allocated' : 'thin'} ${kind}${place}\n`;
}
