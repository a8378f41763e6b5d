import type { CheckOptions } from '../../protocol/check';
import { EngineError } from '../errors';
import { requireOpenableQed, type QedMetadata } from '../formats/qed/metadata';
import type { PaceOptions } from '../pace';
import { CheckPace } from './checkPace';
import { ClusterRanges } from './clusterRanges';
import { Findings, hex, type FindingText } from './findings';
import { readInto } from './padded';
import type { CheckResult } from './qcow2Check';
import { lookIntoQedLeaks } from './qedLeftovers';
import { QedSlots } from './qedSlots';
import { reportOf } from './report';
import { BUFFER_BYTES, makeScanLoops, type ScanLoops } from './scanLoops';
import { WINDOW_SIZES } from './windows';

export interface QedCheckOptions extends CheckOptions, PaceOptions {
  /** How the inner loops run, and how many clusters are looked at in one go; for tests. */
  readonly loops?: 'wasm' | 'js' | 'best' | undefined;
  readonly window?: number | undefined;
}

/** Leaked clusters whose content is looked at. */
const MOST_ABANDONED = 1024;

/** Bytes of the L1 table that are read at once. */
const L1_PIECE = 64 * 1024;

/**
 * Checks a QED image the way qemu-img check does, with the same counts. Only reads.
 * @throws EngineError `format.invalid` or `format.unsupported` where QEMU refuses to open the image, `cancelled`
 */
export async function checkQed(metadata: QedMetadata, options: QedCheckOptions): Promise<CheckResult> {
  requireOpenableQed(metadata);
  return new QedCheck(metadata, options).run();
}

class QedCheck {
  private readonly started = performance.now();
  private readonly metadata: QedMetadata;
  private readonly options: QedCheckOptions;
  private readonly pace: CheckPace;
  private readonly findings: Findings;
  private readonly loops: ScanLoops;
  private readonly windowLength: number;
  private readonly slots: QedSlots;
  private readonly emptySlotsUsed: Uint32Array;
  private readonly leaked = new ClusterRanges();
  private readonly corrupt = new ClusterRanges();
  private readonly abandoned: number[] = [];
  /** Whole clusters of the file; what follows the last one does not count. */
  private readonly fileClusters: number;
  private readonly headerClusters: number;
  private readonly tableClusters: number;
  /** Last clusters of tables that took an empty slot; to QEMU they look unused. */
  private readonly displaced = new Set<number>();
  private allocated = 0;
  private fragmented = 0;
  private failure: string | null = null;
  private first = 0;
  private end = 0;

  constructor(metadata: QedMetadata, options: QedCheckOptions) {
    const { clusterSize } = metadata;
    this.metadata = metadata;
    this.options = options;
    this.pace = new CheckPace(options);
    this.findings = new Findings(options.maxFindings);
    this.fileClusters = Math.floor((Math.ceil(metadata.source.size / 512) * 512) / clusterSize);
    this.headerClusters = metadata.headerBytes / clusterSize;
    this.tableClusters = metadata.tableBytes / clusterSize;
    this.slots = new QedSlots(this.fileClusters, clusterSize);
    this.emptySlotsUsed = new Uint32Array(Math.ceil((this.slots.empty + 1) / 32));
    this.windowLength = Math.min(options.window ?? WINDOW_SIZES.sparse, this.fileClusters);
    this.loops = makeScanLoops(
      { clusterBits: Math.log2(clusterSize), littleEndian: true, fileClusters: this.fileClusters, largestWindow: this.windowLength },
      options.loops,
    );
  }

  async run(): Promise<CheckResult> {
    const { metadata, findings, options } = this;
    const { clusterSize, source } = metadata;
    const windows = Math.ceil(this.fileClusters / this.windowLength);
    this.pace.expectPasses(windows);
    // A table that an earlier one's data overlaps is not scanned. With one window that shows on the way.
    const skipped = windows > 1 ? await this.findOverlapped() : null;
    for (this.first = 0; this.first < this.fileClusters; this.first = this.end) {
      this.end = Math.min(this.first + this.windowLength, this.fileClusters);
      this.loops.moveTo(this.first, this.end - this.first);
      await this.scan(skipped);
      if (this.failure === null) {
        this.countLeaks();
      }
    }
    if (this.failure === null) {
      this.countEmptySlots();
      await lookIntoQedLeaks(metadata, this.abandoned, findings, this.loops, this.pace);
    }
    const totalClusters = Math.ceil(metadata.size / clusterSize);
    const { allocated, fragmented, failure } = this;
    const tally = { totalClusters, allocated, fragmented, failure, compressed: 0, imageEndOffset: 0 };
    return {
      ...reportOf({ path: source.name, format: 'qed', findings, tally, deep: options.deep, started: this.started }),
      clusters: { leaked: this.leaked.taken(), corrupt: this.corrupt.taken() },
    };
  }

  private get isFirst(): boolean {
    return this.first === 0;
  }

  private async scan(skipped: ReadonlySet<number> | null): Promise<void> {
    const { loops, headerClusters, metadata } = this;
    // Nothing may point into the header; marked as used, it makes the loops set such entries aside.
    for (let cluster = this.first; cluster < Math.min(headerClusters, this.end); cluster++) {
      this.use(cluster);
    }
    this.useTable(metadata.l1TableOffset, 'the L1 table', null);
    loops.begin();
    await this.eachTable(async (row, offset) => {
      const free = this.useTable(offset, `the L2 table of L1 entry ${row}`, row);
      if (skipped ? !skipped.has(row) : free) {
        await this.scanTable(row, offset);
      }
    });
  }

  /** Calls `each` for every L1 entry that leads to a table; reports the others. */
  private async eachTable(each: (row: number, offset: number) => Promise<void>): Promise<void> {
    const { metadata, pace } = this;
    const piece = new Uint8Array(Math.min(L1_PIECE, metadata.tableBytes));
    const view = new DataView(piece.buffer);
    for (let at = 0; at < metadata.tableBytes; at += piece.length) {
      if (!this.read(piece, metadata.l1TableOffset + at, 'L1 table')) {
        continue;
      }
      for (let i = 0; i < piece.length; i += 8) {
        const low = view.getUint32(i, true);
        const high = view.getUint32(i + 4, true);
        if ((low | high) === 0) {
          continue;
        }
        const row = (at + i) / 8;
        if (this.isCluster(high, low) && this.isCluster(...plus(high, low, metadata.tableBytes - metadata.clusterSize))) {
          await each(row, high * 2 ** 32 + low);
        } else if (this.isFirst) {
          this.reportBadTable(row, high, low);
        }
      }
      if (pace.due()) {
        await pace.turn();
      }
    }
  }

  private async scanTable(row: number, offset: number): Promise<void> {
    const { loops, metadata, pace } = this;
    const { tableBytes } = metadata;
    loops.begin();
    const { allocated, fragmented } = loops;
    for (let at = 0; at < tableBytes; at += BUFFER_BYTES) {
      const length = Math.min(BUFFER_BYTES, tableBytes - at);
      if (!this.read(loops.buffer.subarray(0, length), offset + at, 'L2 table')) {
        break;
      }
      const slow = loops.scan(0, length / 8);
      for (let i = 0; i < slow; i++) {
        const word = loops.slow[i] ?? 0;
        this.entry(row, offset, at / 8 + word, loops.view.getUint32(word * 8 + 4, true), loops.view.getUint32(word * 8, true));
      }
      pace.done(length);
      if (pace.due()) {
        await pace.turn();
      }
    }
    if (this.isFirst) {
      this.allocated += (loops.allocated - allocated) >>> 0;
      this.fragmented += (loops.fragmented - fragmented) >>> 0;
    }
  }

  /** An entry that the loops left: it is no valid offset, its cluster is in use already, or it belongs to a run that has one of these. */
  private entry(row: number, table: number, index: number, high: number, low: number): void {
    const cluster = (high * 2 ** 32 + low) / this.metadata.clusterSize;
    if (!this.isCluster(high, low)) {
      if (this.isFirst) {
        const message = `0x${word(high, low)} is not the offset of a cluster in the file.`;
        this.findings.add(
          'qedDataOffset',
          'corruption',
          this.l2Text(row, table, index, message, 'The guest cannot read this cluster.', null),
        );
      }
    } else if (cluster >= this.first && cluster < this.end && !this.use(cluster)) {
      this.corrupt.add(cluster, cluster + 1);
      const message = `cluster ${cluster} at ${hex(cluster * this.metadata.clusterSize)} is in use already.`;
      const consequence = 'A write through one entry changes what the other shows.';
      this.findings.add('qedDoublyUsed', 'corruption', this.l2Text(row, table, index, message, consequence, cluster));
    }
  }

  /** Marks a cluster of the window; returns false when it was in use. */
  private use(cluster: number): boolean {
    const { map } = this.loops;
    const x = cluster - this.first;
    const at = (x >>> 5) * 2 + 1;
    const bit = 1 << (x & 31);
    const before = map[at] ?? 0;
    map[at] = before | bit;
    return (before & bit) === 0;
  }

  /** Marks the clusters of a table, as QEMU numbers them; returns whether none of those in this window was in use. */
  private useTable(offset: number, title: string, row: number | null): boolean {
    const { slots, displaced, metadata } = this;
    const cluster = offset / metadata.clusterSize;
    const firstSlot = slots.of(cluster);
    let inUse = 0;
    for (let slot = firstSlot; slot < firstSlot + this.tableClusters; slot++) {
      const at = slots.clusterAt(slot);
      if (at < 0) {
        // An empty slot belongs to the window of the table's first cluster.
        if (cluster >= this.first && cluster < this.end) {
          displaced.add(cluster + this.tableClusters - 1);
          inUse += this.useEmptySlot(slots.emptyIndex(slot)) ? 0 : 1;
        }
      } else if (at >= this.first && at < this.end && !this.use(at)) {
        this.corrupt.add(at, at + 1);
        inUse++;
      }
    }
    const clash = `${inUse} of the clusters of ${title} at ${hex(offset)} ${inUse === 1 ? 'is' : 'are'} in use already.`;
    this.findings.add('qedDoublyUsed', 'corruption', () => this.l1Text(row, offset, clash, TABLE_SHARED), inUse);
    return inUse === 0;
  }

  private useEmptySlot(index: number): boolean {
    const at = index >>> 5;
    const bit = 1 << (index & 31);
    const before = this.emptySlotsUsed[at] ?? 0;
    this.emptySlotsUsed[at] = before | bit;
    return (before & bit) === 0;
  }

  /**
   * Which L1 entries lead to a table that is not scanned because something before it, in the order of the L1 table, uses its clusters.
   * Only for files of several windows, where the clusters of a table and those that its entries name are seen at different times.
   */
  private async findOverlapped(): Promise<Set<number>> {
    const { metadata, slots, loops, pace } = this;
    const { clusterSize } = metadata;
    /** Slots of all tables, and whether something used them. */
    const used = new Map<number, boolean>();
    const slotsOf = (offset: number): number[] => {
      const first = slots.of(offset / clusterSize);
      return Array.from({ length: this.tableClusters }, (_, i) => first + i);
    };
    await this.eachTable((_, offset) => {
      slotsOf(offset).forEach((slot) => used.set(slot, false));
      return Promise.resolve();
    });
    slotsOf(metadata.l1TableOffset).forEach((slot) => used.set(slot, true));
    const overlapped = new Set<number>();
    await this.eachTable(async (row, offset) => {
      const own = slotsOf(offset);
      const clash = own.some((slot) => used.get(slot));
      own.forEach((slot) => used.set(slot, true));
      if (clash) {
        overlapped.add(row);
        return;
      }
      for (let at = 0; at < metadata.tableBytes; at += BUFFER_BYTES) {
        const length = Math.min(BUFFER_BYTES, metadata.tableBytes - at);
        if (!this.read(loops.buffer.subarray(0, length), offset + at, 'L2 table')) {
          break;
        }
        for (let i = 0; i < length; i += 8) {
          const slot = slots.of((loops.view.getUint32(i + 4, true) * 2 ** 32 + loops.view.getUint32(i, true)) / clusterSize);
          if (used.has(slot)) {
            used.set(slot, true);
          }
        }
        if (pace.due()) {
          await pace.turn();
        }
      }
    });
    // The scan reports again what was met on the way.
    this.findings.rollBack({ kept: 0, counted: [] });
    return overlapped;
  }

  private countLeaks(): void {
    const { slots, metadata, findings, displaced } = this;
    const { map } = this.loops;
    const length = this.end - this.first;
    for (let x = 0; x < length; x += 32) {
      const inRange = length - x >= 32 ? -1 : 2 ** (length - x) - 1;
      for (let unused = ~(map[(x >>> 5) * 2 + 1] ?? 0) & inRange; unused !== 0; unused &= unused - 1) {
        this.leak(this.first + x + 31 - Math.clz32(unused & -unused));
      }
    }
    for (let cluster = this.first; cluster < Math.min(this.headerClusters, this.end); cluster++) {
      if (slots.of(cluster) >= this.headerClusters) {
        this.leak(cluster);
      }
    }
    for (const cluster of displaced) {
      const x = cluster - this.first;
      if (x >= 0 && x < length && ((map[(x >>> 5) * 2 + 1] ?? 0) & (1 << (x & 31))) !== 0) {
        findings.add('dataIntoMetadata', 'extra', () => ({
          message: `Cluster ${cluster} at ${hex(cluster * metadata.clusterSize)} holds the end of a table, but has another use too.`,
          consequence: TABLE_SHARED,
          ...clusterPlaces(cluster, metadata.clusterSize),
        }));
      }
    }
  }

  private leak(cluster: number): void {
    const { findings, metadata, displaced } = this;
    const { clusterSize } = metadata;
    if (displaced.has(cluster) || cluster < this.headerClusters) {
      findings.add('leak', 'leak', () => ({
        message: `QEMU counts cluster ${cluster} at ${hex(cluster * clusterSize)} as leaked, although it is in use: its check divides offsets by cluster_size - 1.`,
        consequence: NOT_LEAKED,
        ...clusterPlaces(cluster, clusterSize),
      }));
      return;
    }
    this.leaked.add(cluster, cluster + 1);
    if (this.abandoned.length < MOST_ABANDONED) {
      this.abandoned.push(cluster);
    }
    findings.add('leak', 'leak', () => ({
      message: `Cluster ${cluster} at ${hex(cluster * clusterSize)} is not used by any table.`,
      consequence: 'Space is wasted; no data is known to be lost.',
      ...clusterPlaces(cluster, clusterSize),
    }));
  }

  private countEmptySlots(): void {
    const { slots, headerClusters, metadata } = this;
    let unused = 0;
    for (let index = 0; index < slots.empty; index++) {
      const slot = (index + 1) * metadata.clusterSize - 1;
      const used = (((this.emptySlotsUsed[index >>> 5] ?? 0) >>> (index & 31)) & 1) !== 0;
      unused += used || slot < headerClusters ? 0 : 1;
    }
    const message = `QEMU counts ${unused} leaked cluster${unused === 1 ? '' : 's'} that the file does not have: its check divides offsets by cluster_size - 1, and finds one cluster too many after every ${metadata.clusterSize - 1}.`;
    this.findings.add('leak', 'leak', () => ({ message, consequence: NOT_LEAKED, place: null, cluster: null, guest: null }), unused);
  }

  /** @returns false on an I/O error, which is reported */
  private read(target: Uint8Array, hostOffset: number, structure: string): boolean {
    try {
      readInto(this.metadata.source, target, hostOffset);
      return true;
    } catch (error) {
      if (!(error instanceof EngineError && error.code === 'file.io')) {
        throw error;
      }
      if (this.isFirst) {
        this.failure ??= 'Input/output error';
        this.findings.add('unreadable', 'checkError', () => ({
          message: `${target.length} bytes of the ${structure} at ${hex(hostOffset)} cannot be read.`,
          consequence: 'What they map is not known, and leaks cannot be told.',
          place: { kind: 'host', hostOffset, length: target.length },
          cluster: null,
          guest: null,
        }));
      }
      return false;
    }
  }

  /** Whether a 64-bit value is the offset of a cluster of the file behind the header. */
  private isCluster(high: number, low: number): boolean {
    const { clusterSize, headerBytes } = this.metadata;
    const offset = high * 2 ** 32 + low;
    return (low & (clusterSize - 1)) === 0 && offset >= headerBytes && offset < this.fileClusters * clusterSize;
  }

  private reportBadTable(row: number, high: number, low: number): void {
    const message = `0x${word(high, low)} is not the offset of a table in the file.`;
    this.findings.add('qedTableOffset', 'corruption', () =>
      this.l1Text(row, null, message, 'The guest cannot read the whole range that this entry maps.'),
    );
  }

  private l1Text(row: number | null, offset: number | null, message: string, consequence: string): FindingText {
    const { metadata } = this;
    const { l1TableOffset, tableBytes, l2Coverage } = metadata;
    return {
      message: row === null ? message : `L1 entry ${row} at ${hex(l1TableOffset + row * 8)}: ${message}`,
      consequence,
      place:
        row === null
          ? { kind: 'host', hostOffset: l1TableOffset, length: tableBytes }
          : { kind: 'tableRow', table: { kind: 'l1', view: { kind: 'active' } }, row },
      cluster: offset === null ? null : { kind: 'host', hostOffset: offset, length: tableBytes },
      guest: row === null ? null : { guestOffset: row * l2Coverage, length: l2Coverage },
    };
  }

  private l2Text(
    row: number,
    table: number,
    index: number,
    message: string,
    consequence: string,
    cluster: number | null,
  ): () => FindingText {
    const { clusterSize, tableEntries } = this.metadata;
    return () => {
      const guestCluster = row * tableEntries + index;
      return {
        message: `L2 entry ${index} at ${hex(table + index * 8)}, for guest offset ${hex(guestCluster * clusterSize)}: ${message}`,
        consequence,
        place: { kind: 'tableRow', table: { kind: 'l2', view: { kind: 'active' } }, row: guestCluster },
        cluster: cluster === null ? null : { kind: 'host', hostOffset: cluster * clusterSize, length: clusterSize },
        guest: { guestOffset: guestCluster * clusterSize, length: clusterSize },
      };
    };
  }
}

const TABLE_SHARED = 'A write to one of its users destroys the other.';
const NOT_LEAKED = 'Nothing is leaked or lost; the count is as qemu-img check gives it.';

function clusterPlaces(cluster: number, clusterSize: number): Pick<FindingText, 'place' | 'cluster' | 'guest'> {
  const place = { kind: 'host', hostOffset: cluster * clusterSize, length: clusterSize } as const;
  return { place, cluster: place, guest: null };
}

/** A 64-bit sum of halves and a number below 2^32. */
function plus(high: number, low: number, add: number): [number, number] {
  const sum = low + add;
  return [high + Math.floor(sum / 2 ** 32), sum >>> 0];
}

function word(high: number, low: number): string {
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}
