import type { ByteSource } from '../io/source';
import { FileExtents, type FileExtent } from './fileExtents';
import type { LayerMapping } from './layerMapping';
import { UNIT, type UnitKind, type Window } from './window';
import type { MapVisitor } from './walk';

/** Bits of `ExtentBatch.flags`, named as qemu-img map names them. */
export const EXTENT = { present: 1, zero: 2, data: 4, offset: 8, compressed: 16 } as const;

/** Extents of the map in address order, one array for each field. Reused after the sink returns. */
export interface ExtentBatch {
  count: number;
  /** Guest offset. */
  readonly start: Float64Array;
  readonly length: Float64Array;
  readonly depth: Uint16Array;
  /** EXTENT bits. */
  readonly flags: Uint8Array;
  /** Host offset in the layer's file (its data file, where it has one); meaningful with EXTENT.offset. */
  readonly offset: Float64Array;
}

export type ExtentSink = (batch: ExtentBatch) => void;

const BATCH = 8192;

const { present, zero, data, offset: hasOffset, compressed } = EXTENT;

/** What qemu-img map says of each kind. Files and data with holes are asked first. */
const FLAGS: Readonly<Record<Exclude<UnitKind, typeof UNIT.invalid | typeof UNIT.split | typeof UNIT.file>, number>> = {
  [UNIT.data]: present | data | hasOffset,
  [UNIT.zero]: present | zero,
  [UNIT.zeroAllocated]: present | zero | hasOffset,
  [UNIT.compressed]: present | data | compressed,
  [UNIT.encrypted]: present | data,
  [UNIT.absent]: zero,
  [UNIT.absentAllocated]: zero | hasOffset,
  [UNIT.missing]: 0,
};
const FLAGS_OF = Uint8Array.from({ length: 11 }, (_, kind) => (FLAGS as Readonly<Record<number, number>>)[kind] ?? 0);
const FILE_DATA = present | data | hasOffset;
const FILE_HOLE = present | zero | hasOffset;
/** A data file that is not open: what its bytes are is not known, so they count as data. */
const UNKNOWN_FILE: FileExtent = { to: Infinity, data: true };
const DATA_HOLE = present | zero | data | hasOffset;

/** Turns a walk into extents: merges what continues, and asks the file system where QEMU does. */
export class ExtentEmitter implements MapVisitor {
  private readonly mappings: readonly LayerMapping[];
  private readonly holes: readonly boolean[];
  private readonly sink: ExtentSink;
  private readonly batch: ExtentBatch = {
    count: 0,
    start: new Float64Array(BATCH),
    length: new Float64Array(BATCH),
    depth: new Uint16Array(BATCH),
    flags: new Uint8Array(BATCH),
    offset: new Float64Array(BATCH),
  };
  /** The extent that may still grow; its length is 0 before the first. */
  private pending = { start: 0, length: 0, depth: 0, flags: 0, nextOffset: 0, fileEnd: Infinity };
  private readonly files = new Map<ByteSource, FileExtents>();
  /** Those of the file that each layer was last asked about. */
  private readonly usual: (FileExtents | undefined)[];

  /** @param holes for each layer, whether data is looked through for holes */
  constructor(mappings: readonly LayerMapping[], holes: readonly boolean[], sink: ExtentSink) {
    this.mappings = mappings;
    this.holes = holes;
    this.sink = sink;
    this.usual = mappings.map(() => undefined);
  }

  units(window: Window, from: number, to: number): void {
    const { owner, kind, host, unit } = window;
    for (let i = from; i < to;) {
      const mark = owner[i]!;
      const state = kind[i]!;
      let end = i + 1;
      if ((FLAGS_OF[state]! & hasOffset) !== 0) {
        const first = host[i]!;
        for (let next = first + unit; end < to && host[end] === next && owner[end] === mark && kind[end] === state; end++) {
          next += unit;
        }
      } else {
        while (end < to && owner[end] === mark && kind[end] === state) {
          end++;
        }
      }
      const start = i === 0 ? window.start : window.base + i * unit;
      const fileEnd = this.mappings[mark - 1]!.fileAt?.(start).end ?? Infinity;
      if (fileEnd < window.base + end * unit) {
        // Borders between files are borders between units; the disk may end inside one.
        end = Math.ceil((fileEnd - window.base) / unit);
      }
      const length = (end === window.count ? window.end : window.base + end * unit) - start;
      const offset = host[i]! + (i === 0 ? window.start - window.base : 0);
      if (state === UNIT.data && !this.holes[mark - 1]) {
        this.append(start, length, mark - 1, FILE_DATA, offset);
      } else {
        this.appendKind(start, length, mark - 1, state, offset);
      }
      i = end;
    }
  }

  uniform(start: number, end: number, depth: number, kind: UnitKind): void {
    this.appendKind(start, end - start, depth, kind, 0);
  }

  /** Passes on what is left. */
  finish(): void {
    this.push();
    this.flush();
  }

  private appendKind(start: number, length: number, depth: number, kind: number, offset: number): void {
    const mapping = this.mappings[depth]!;
    if (kind === UNIT.invalid) {
      // What is complete is reported; the extent that was still growing is not, as with qemu-img.
      this.flush();
      throw mapping.invalidAt(start);
    } else if (kind === UNIT.file) {
      this.appendFile(mapping.dataSource, start, length, depth, start, FILE_HOLE);
    } else if (kind === UNIT.data && this.holes[depth]) {
      this.appendFile(mapping.fileAt ? mapping.fileAt(start).source : mapping.dataSource, start, length, depth, offset, DATA_HOLE);
    } else {
      this.append(start, length, depth, FLAGS_OF[kind]!, offset);
    }
  }

  /** Splits a stretch of a file into its data and its holes. */
  private appendFile(source: ByteSource | null, start: number, length: number, depth: number, offset: number, hole: number): void {
    const extents = source ? this.extentsOf(source, depth) : null;
    for (let done = 0; done < length;) {
      const extent = extents ? extents.at(offset + done) : UNKNOWN_FILE;
      const piece = Math.min(length - done, extent.to - offset - done);
      this.append(start + done, piece, depth, extent.data ? FILE_DATA : hole, offset + done);
      done += piece;
    }
  }

  private extentsOf(source: ByteSource, depth: number): FileExtents {
    const usual = this.usual[depth];
    if (usual?.source === source) {
      return usual;
    }
    let extents = this.files.get(source);
    if (!extents) {
      extents = new FileExtents(source);
      this.files.set(source, extents);
    }
    this.usual[depth] = extents;
    return extents;
  }

  private append(start: number, length: number, depth: number, flags: number, offset: number): void {
    const { pending } = this;
    if (
      pending.depth === depth &&
      pending.flags === flags &&
      pending.length > 0 &&
      ((flags & hasOffset) === 0 || (pending.nextOffset === offset && start < pending.fileEnd))
    ) {
      pending.length += length;
    } else {
      this.push();
      pending.start = start;
      pending.length = length;
      pending.depth = depth;
      pending.flags = flags;
      pending.fileEnd = this.mappings[depth]?.fileAt?.(start).end ?? Infinity;
    }
    pending.nextOffset = offset + length;
  }

  private push(): void {
    const { pending, batch } = this;
    if (pending.length > 0) {
      const { count } = batch;
      batch.start[count] = pending.start;
      batch.length[count] = pending.length;
      batch.depth[count] = pending.depth;
      batch.flags[count] = pending.flags;
      batch.offset[count] = pending.nextOffset - pending.length;
      batch.count = count + 1;
      if (batch.count === BATCH) {
        this.flush();
      }
    }
  }

  private flush(): void {
    if (this.batch.count > 0) {
      this.sink(this.batch);
      this.batch.count = 0;
    }
  }
}
