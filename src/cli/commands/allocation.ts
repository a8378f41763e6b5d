import { openReader } from '../../engine/chain/chainReader';
import type { SuppliedExtent } from '../../engine/chain/readStack';
import { Pace } from '../../engine/pace';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { openGuestChain } from '../guestChain';
import { RANGE, readRange } from '../jobOptions';
import { prettyJson } from '../json';

/** `allocation`: which ranges of a disk have space in the image itself, where, and which layer supplies the others. */
export async function allocation(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'allocation',
      options: [FORMAT, OUTPUT, ...RANGE, FOLLOW],
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
    const { offset, length } = readRange(line, context);
    const end = offset + (length ?? Math.max(0, reader.size - offset));
    if (end > reader.size) {
      throw new CommandError(`The range ends at ${end}, past the end of the disk of ${reader.size} bytes.`);
    }
    const pace = new Pace();
    const { out } = context;
    const write = json ? jsonRows(out) : humanRows(out);
    let row = null as AllocatedRange | null;
    for (let at = offset; at < end && out.wanted;) {
      const extent = reader.blockStatus(at, end - at);
      const next = rangeOf(at, extent, extent.depth === null ? null : chain.layers[extent.depth]!.filename);
      const joined = row === null ? next : join(row, next);
      if (row !== null && joined === null) {
        write(row);
      }
      row = joined ?? next;
      at += extent.length;
      if (pace.due()) {
        await pace.turn(at - offset, end - offset);
      }
    }
    if (row !== null) {
      write(row);
    }
    out.write(json ? '\n]\n' : '');
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
  readonly class: SuppliedExtent['class'];
  /** Layer that supplies the bytes, the image itself being 0; null where none does. */
  readonly depth: number | null;
  readonly filename: string | null;
  /** Where they lie in that layer's file; null where they have no place. */
  readonly offset: number | null;
}

function rangeOf(start: number, extent: SuppliedExtent, filename: string | null): AllocatedRange {
  const { length, class: kind, depth, hostOffset } = extent;
  return { start, length, allocated: depth === 0, class: kind, depth, filename, offset: hostOffset };
}

/** Two ranges that say the same of places one behind the other, as one; null for others. */
function join(before: AllocatedRange, next: AllocatedRange): AllocatedRange | null {
  const follows = before.offset === null ? next.offset === null : next.offset === before.offset + before.length;
  const same = before.class === next.class && before.depth === next.depth;
  return follows && same ? { ...before, length: before.length + next.length } : null;
}

/** Writes ranges as they come: an image may have millions. */
type RowWriter = (row: AllocatedRange) => void;

function jsonRows(out: Context['out']): RowWriter {
  let first = true;
  out.write('[');
  return (row) => {
    out.write(`${first ? '' : ','}\n${prettyJson({ ...row }).replace(/^/gm, '    ')}`);
    first = false;
  };
}

/** What a range holds, in words. */
const CONTENT: Readonly<Record<SuppliedExtent['class'], string>> = {
  data: 'data',
  zero: 'zeroes',
  compressed: 'compressed',
  unallocated: 'nothing',
};

function humanRows(out: Context['out']): RowWriter {
  const line = (...cells: readonly [string, string, string, string, string, string]) => {
    out.write(
      `${cells
        .map((cell, index) => cell.padEnd(WIDTHS[index] ?? 0))
        .join('')
        .trimEnd()}\n`,
    );
  };
  line('Offset', 'Length', 'Allocated', 'Content', 'Mapped to', 'File');
  return ({ start, length, allocated, class: kind, filename, offset }) => {
    line(hexadecimal(start), hexadecimal(length), allocated ? 'yes' : 'no', CONTENT[kind], hexadecimal(offset), filename ?? '');
  };
}

const WIDTHS: readonly number[] = [16, 16, 11, 13, 16];

/** As `map` has it: zero has no prefix. */
function hexadecimal(value: number | null): string {
  return value === null ? '' : value === 0 ? '0' : `0x${value.toString(16)}`;
}
