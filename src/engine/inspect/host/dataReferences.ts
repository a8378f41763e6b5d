import type { LayerView } from '../../../protocol/place';
import type { QedMetadata } from '../../formats/qed/metadata';
import type { ByteSource } from '../../io/source';
import type { Pace } from '../../pace';
import type { Qcow2Context } from '../qcow2Context';
import { l1Entries } from '../tables/qcow2L1';

/** A guest cluster whose bytes lie at a place in the file. */
export interface DataReference {
  /** Host bytes. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly compressed: boolean;
  readonly view: LayerView;
  /** Guest cluster: the row in the view's `l2` table. */
  readonly row: number;
}

/** A shared cluster has a handful of references; more than this are counted, not listed. */
export const MAX_REFERENCES = 65_536;
/** L2 tables that several snapshots share are read once, as far as their number and that of their hits is sane. */
const MAX_REMEMBERED = 1 << 20;

/** L1 entries of all views together that are looked at: 2 GiB of tables, which no real image has. */
const MAX_TOP_ENTRIES = 2 ** 28;
/** After so many bytes of L2 tables, those that are holes are not read any more: a sparse file may claim any number of them. */
const READ_BEFORE_ASKING = 2 ** 30;

const CHUNK = 64 * 1024;
const HIGH = 2 ** 32;
const COMPRESSED_HIGH = 0x40000000;
const OFFSET_HIGH = 0x00ffffff;
const SECTOR = 512;

/** References to [from, to), and how many there are in all. */
export interface FoundReferences {
  readonly references: DataReference[];
  count: number;
}

/**
 * Finds the guest clusters, of the active layer and of every snapshot, that lie in host bytes [from, to): a pass over all L2 tables. Rows
 * count as often as a view refers to them, as refcounts do.
 */
export async function qcow2References(context: Qcow2Context, from: number, to: number, pace: Pace): Promise<FoundReferences> {
  const { metadata } = context;
  const { source, l2Entries, clusterSize } = metadata;
  const found: FoundReferences = { references: [], count: 0 };
  if (metadata.hasDataFile) {
    return found;
  }
  const views: LayerView[] = [
    { kind: 'active' },
    ...context.snapshots.snapshots.map(({ index }): LayerView => ({ kind: 'snapshot', index })),
  ];
  const table = new L2Scan(context, from, to);
  const known = views.length > 1 ? new Map<number, TableHits>() : null;
  let remembered = 0;
  let scanned = 0;
  let topEntries = 0;
  for (const view of views) {
    const { l1 } = context.view(view);
    const entries = Math.min(l1Entries(l1), MAX_TOP_ENTRIES - topEntries);
    topEntries += entries;
    await eachTable(source, l1.hostOffset, entries, async (index, tableOffset) => {
      if (tableOffset % clusterSize !== 0 || tableOffset >= source.size) {
        return;
      }
      let inTable = known?.get(tableOffset);
      if (!inTable) {
        inTable = scanned > READ_BEFORE_ASKING && isHole(source, tableOffset, clusterSize) ? NO_HITS : table.scan(tableOffset);
        remembered += 1 + inTable.hits.length;
        if (remembered < MAX_REMEMBERED) {
          known?.set(tableOffset, inTable);
        }
      }
      found.count += inTable.count;
      for (const { entry, ...hit } of inTable.hits) {
        list(found, { ...hit, view, row: index * l2Entries + entry });
      }
      scanned += clusterSize;
      if (pace.due()) {
        await pace.turn(Math.min(scanned, source.size), source.size);
      }
    });
  }
  return found;
}

/** The same for QED. */
export async function qedReferences(metadata: QedMetadata, from: number, to: number, pace: Pace): Promise<FoundReferences> {
  const { source, l1TableOffset, tableEntries, tableBytes, clusterSize } = metadata;
  const found: FoundReferences = { references: [], count: 0 };
  const view = { kind: 'active' } as const;
  const scan = new WordReader(source, true);
  let scanned = 0;
  await eachTable(
    source,
    l1TableOffset,
    tableEntries,
    async (index, tableOffset) => {
      if (tableOffset >= source.size) {
        return;
      }
      if (scanned > READ_BEFORE_ASKING && isHole(source, tableOffset, tableBytes)) {
        return;
      }
      scan.each(tableOffset, tableBytes, (at, high, low) => {
        const start = high * HIGH + low;
        if (start > 1 && start < to && start + clusterSize > from) {
          found.count += 1;
          list(found, { start, end: start + clusterSize, compressed: false, view, row: index * tableEntries + at });
        }
      });
      scanned += tableBytes;
      if (pace.due()) {
        await pace.turn(Math.min(scanned, source.size), source.size);
      }
    },
    true,
  );
  return found;
}

function isHole(source: ByteSource, hostOffset: number, length: number): boolean {
  const extent = source.extentAt(hostOffset);
  return !extent.data && extent.length >= length;
}

interface Hit {
  readonly start: number;
  readonly end: number;
  readonly compressed: boolean;
  readonly entry: number;
}

/** Entries of one table; `count` goes on where `hits` ends. */
interface TableHits {
  readonly hits: Hit[];
  count: number;
}

const NO_HITS: TableHits = { hits: [], count: 0 };

function list(found: FoundReferences, reference: DataReference): void {
  if (found.references.length < MAX_REFERENCES) {
    found.references.push(reference);
  }
}

/** Calls `visit` for every top-table entry that names a table. */
async function eachTable(
  source: ByteSource,
  hostOffset: number,
  entries: number,
  visit: (index: number, tableOffset: number) => Promise<void>,
  little = false,
): Promise<void> {
  if (!Number.isSafeInteger(hostOffset)) {
    return;
  }
  const reader = new WordReader(source, little);
  const present = Math.min(entries, Math.max(0, Math.floor((source.size - hostOffset) / 8)));
  const perChunk = CHUNK / 8;
  for (let first = 0; first < present; first += perChunk) {
    const used: { readonly index: number; readonly offset: number }[] = [];
    reader.each(hostOffset + first * 8, Math.min(perChunk, present - first) * 8, (at, high, low) => {
      const offset = little ? high * HIGH + low : ((high & OFFSET_HIGH) >>> 0) * HIGH + ((low & ~0x1ff) >>> 0);
      if (offset !== 0 && Number.isSafeInteger(offset)) {
        used.push({ index: first + at, offset });
      }
    });
    for (const { index, offset } of used) {
      await visit(index, offset);
    }
  }
}

/** Reads stretches of 64-bit words and hands out those that are not zero. */
class WordReader {
  private readonly source: ByteSource;
  private readonly little: boolean;
  private readonly bytes = new Uint8Array(CHUNK);
  private readonly view = new DataView(this.bytes.buffer);
  private readonly halves = new Int32Array(this.bytes.buffer);

  constructor(source: ByteSource, little: boolean) {
    this.source = source;
    this.little = little;
  }

  each(hostOffset: number, length: number, visit: (index: number, high: number, low: number) => void): void {
    const { view, halves, little } = this;
    for (let done = 0; done < length; done += CHUNK) {
      const wanted = Math.min(CHUNK, length - done);
      const read = this.source.read(wanted === CHUNK ? this.bytes : this.bytes.subarray(0, wanted), hostOffset + done);
      const words = Math.floor(read / 8);
      for (let index = 0; index < words; index++) {
        if ((halves[index * 2]! | halves[index * 2 + 1]!) !== 0) {
          const first = view.getUint32(index * 8, little);
          const second = view.getUint32(index * 8 + 4, little);
          visit(done / 8 + index, little ? second : first, little ? first : second);
        }
      }
      if (read < wanted) {
        return;
      }
    }
  }
}

/** One L2 table against a range of host bytes. */
class L2Scan {
  private readonly source: ByteSource;
  private readonly bytes = new Uint8Array(CHUNK);
  private readonly view = new DataView(this.bytes.buffer);
  private readonly from: number;
  private readonly to: number;
  private readonly clusterSize: number;
  private readonly wordsPerEntry: number;
  /** Bits of a compressed descriptor's offset in its upper half, and where the number of sectors begins there. */
  private readonly offsetHigh: number;
  private readonly sectorShift: number;
  private readonly sectorMask: number;
  /** Upper halves that an offset in reach can have. */
  private readonly lowestHigh: number;
  private readonly highestHigh: number;

  constructor({ metadata }: Qcow2Context, from: number, to: number) {
    this.source = metadata.source;
    this.from = from;
    this.to = to;
    this.clusterSize = metadata.clusterSize;
    this.wordsPerEntry = metadata.l2EntryBytes / 8;
    // x = 62 - (cluster_bits - 8) bits of offset, at least 49: the number of sectors lies wholly in the upper half.
    this.sectorShift = 62 - (metadata.clusterBits - 8) - 32;
    this.offsetHigh = 2 ** this.sectorShift - 1;
    this.sectorMask = 2 ** (metadata.clusterBits - 8) - 1;
    // Compressed bytes reach over at most two clusters.
    this.lowestHigh = Math.max(0, Math.floor((from - 2 * metadata.clusterSize) / HIGH));
    this.highestHigh = Math.floor(to / HIGH);
  }

  scan(tableOffset: number): TableHits {
    const found: TableHits = { hits: [], count: 0 };
    for (let done = 0; done < this.clusterSize; done += CHUNK) {
      const wanted = Math.min(CHUNK, this.clusterSize - done);
      const read = this.source.read(wanted === CHUNK ? this.bytes : this.bytes.subarray(0, wanted), tableOffset + done);
      this.scanPiece(Math.floor(read / 8), done / 8, found);
      if (read < wanted) {
        break;
      }
    }
    return found.count === 0 ? NO_HITS : found;
  }

  /** Nearly all of millions of entries point elsewhere, and their upper half alone says so. */
  private scanPiece(words: number, firstWord: number, found: TableHits): void {
    const { view, wordsPerEntry, offsetHigh, lowestHigh, highestHigh } = this;
    for (let word = 0; word < words; word += wordsPerEntry) {
      const high = view.getUint32(word * 8);
      const compressed = (high & COMPRESSED_HIGH) !== 0;
      const upper = high & (compressed ? offsetHigh : OFFSET_HIGH);
      if (upper >= lowestHigh && upper <= highestHigh) {
        const low = view.getUint32(word * 8 + 4);
        this.meet(upper * HIGH + (compressed ? low : (low & ~0x1ff) >>> 0), high, compressed, (firstWord + word) / wordsPerEntry, found);
      }
    }
  }

  private meet(start: number, high: number, compressed: boolean, entry: number, found: TableHits): void {
    if (start === 0 || start >= this.to) {
      return;
    }
    const length = compressed ? (((high >>> this.sectorShift) & this.sectorMask) + 1) * SECTOR - (start % SECTOR) : this.clusterSize;
    const end = start + length;
    if (end > this.from) {
      found.count += 1;
      if (found.hits.length < MAX_REFERENCES) {
        found.hits.push({ start, end, compressed, entry });
      }
    }
  }
}
