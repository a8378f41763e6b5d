import type { CheckContext } from './context';
import { compressedExtent, hasReservedL1Bits, hasReservedL2Bits, hostOffsetOf, isAllocated, isCompressed, isCopied } from './entries';
import { CONSEQUENCE, l1EntryText, l2EntryText, ofSnapshot } from './entryText';
import { lookPastDataFile, lookPastSize } from './beyondEnd';
import { hex } from './findings';
import type { FindingKind } from '../../protocol/check';
import type { L2TableSet } from './l2Tables';
import type { L1View, L2Visitor } from './l2Walk';
import { ROLE, type References } from './references';
import type { Structure } from './structures';

/** A part of the image file that is checked at a time, in host clusters. */
export interface Window {
  readonly first: number;
  /** The cluster after the last. The last window has one cluster more than the file: a table may reach a little past the end. */
  readonly end: number;
  /** The first of the windows: what is wrong with an entry in itself is reported in this one only. */
  readonly isFirst: boolean;
}

export interface ScanOptions {
  /** Whether the loops may do the work: where references are sparse. */
  readonly looped: boolean;
  /** Whether there are several windows, so that it is worth noting which clusters a table names. */
  readonly severalWindows: boolean;
}

/** An L2 table whose words are at hand. */
export interface VisitedTable {
  readonly set: L2TableSet;
  /** In the set. */
  readonly index: number;
  readonly hostOffset: number;
  /** L1 entries of the active layer and of snapshots that lead to it; QEMU goes over the table as often. */
  readonly active: number;
  readonly snapshots: number;
  /** How many times QEMU compares its COPIED flags: not for a table at offset 0, nor where the table's own refcount is not known. */
  readonly copiedChecks: number;
}

/** Counts the references to the clusters of one window, and looks at every entry on the way. */
export class WindowScan implements L2Visitor {
  private readonly context: CheckContext;
  private readonly window: Window;
  private readonly refs: References;
  private readonly looped: boolean;
  private readonly severalWindows: boolean;
  private readonly wordsPerEntry: 1 | 2;
  /** Where the table's previous cluster ended; 0 before its first. */
  private follows = 0;

  constructor(context: CheckContext, window: Window, refs: References, { looped, severalWindows }: ScanOptions) {
    const { extendedL2, hasDataFile } = context.image.metadata;
    this.context = context;
    this.window = window;
    this.refs = refs;
    this.looped = looped && !extendedL2 && !hasDataFile;
    this.severalWindows = severalWindows;
    this.wordsPerEntry = extendedL2 ? 2 : 1;
  }

  /** Counts the references to a structure that is no L2 table. */
  structure({ title, hostOffset, length, place }: Structure): void {
    const { image, tally, findings } = this.context;
    const end = BigInt.asIntN(64, hostOffset + length);
    const about = { place, cluster: null, guest: null };
    if (end - BigInt(image.fileLength) >= BigInt(image.clusterSize)) {
      if (this.window.isFirst) {
        findings.add('referencePastEnd', 'corruption', () => ({
          message: `${title} at ${hex(hostOffset)}, ${length} bytes long, reaches past the end of the file at ${hex(image.fileLength)}.`,
          consequence: CONSEQUENCE.pastEnd,
          ...about,
        }));
      }
      return;
    }
    if (BigInt.asIntN(64, hostOffset) < 0n || hostOffset > end) {
      // Its end wraps around, so that it only seems to lie inside the file. QEMU counts until its memory is used up.
      if (this.window.isFirst) {
        tally.failure ??= 'Cannot allocate memory';
        findings.add('unreadable', 'checkError', () => ({
          message: `${title} at ${hex(hostOffset)}, ${length} bytes long, ends past 2^63.`,
          consequence: 'The check cannot be completed.',
          ...about,
        }));
      }
      return;
    }
    this.mark(Number(hostOffset), Number(length), 1, 0, ROLE.structure);
  }

  l1Entry(view: L1View, index: number, high: number, low: number): void {
    const { image, findings } = this.context;
    const { clusterSize, fileLength } = image;
    if (!this.window.isFirst) {
      return;
    }
    const report = (kind: FindingKind, message: string, consequence: string): void => {
      findings.add(kind, 'corruption', () => l1EntryText(image, view, index, high, low, message, consequence));
    };
    const offset = hostOffsetOf(high, low);
    if (hasReservedL1Bits(high, low)) {
      report('reservedBits', 'reserved bits are set.', CONSEQUENCE.reserved);
    }
    if (offset % clusterSize !== 0) {
      report('misalignedL2', `its L2 table offset ${hex(offset)} is not aligned to a cluster.`, CONSEQUENCE.misalignedL2);
    }
    if (this.pastEnd(offset, clusterSize)) {
      const message = `its L2 table at ${hex(offset)} lies past the end of the file at ${hex(fileLength)}.`;
      report('referencePastEnd', message, CONSEQUENCE.lostTable);
    }
  }

  tables(set: L2TableSet): void {
    const { clusterSize } = this.context.image;
    for (let index = 0; index < set.length; index++) {
      const offset = set.hostOffset[index] ?? 0;
      const copied = set.activeCopied[index] ?? 0;
      const plain = set.activePlain[index] ?? 0;
      if (!this.pastEnd(offset, clusterSize)) {
        this.mark(offset, clusterSize, copied + plain, set.snapshots[index] ?? 0, ROLE.l2Table);
      }
      if (offset !== 0 && copied + plain > 0) {
        const isOne = this.hasRefcountOne(offset);
        if (isOne !== undefined) {
          this.reportL1Copied(set, index, isOne, isOne ? plain : copied);
        }
      }
    }
  }

  skips(set: L2TableSet, table: number): boolean {
    const { first, end, isFirst } = this.window;
    if (this.refs.exceeded) {
      return true;
    }
    if (isFirst || !this.context.walk.inOneSet) {
      return false;
    }
    return (set.lowest[table] ?? 0) >= end || (set.highestEnd[table] ?? 0xffffffff) <= first;
  }

  words(set: L2TableSet, index: number, at: number, count: number, firstWord: number): void {
    const { context, window } = this;
    const { loops, tally } = context;
    if (this.refs.exceeded) {
      return;
    }
    const table = this.visited(set, index);
    if (firstWord === 0) {
      this.follows = 0;
      loops.begin();
    }
    if (this.severalWindows && window.isFirst) {
      this.noteBounds(table, at, count, firstWord);
    }
    if (this.looped && table.active === 1 && table.snapshots === 0 && table.copiedChecks === 1) {
      const { allocated, fragmented } = loops;
      const slow = loops.scan(at, count);
      if (window.isFirst) {
        tally.allocated += (loops.allocated - allocated) >>> 0;
        tally.fragmented += (loops.fragmented - fragmented) >>> 0;
      }
      for (let i = 0; i < slow; i++) {
        const word = loops.slow[i] ?? 0;
        this.entry(table, firstWord + word, loops.view.getInt32(at + word * 8), loops.view.getInt32(at + word * 8 + 4), 0, 0);
      }
    } else {
      this.eachEntry(table, at, count, firstWord);
    }
    if (window.isFirst) {
      const firstEntry = firstWord / this.wordsPerEntry;
      lookPastSize(context, table, at, count, firstEntry);
      lookPastDataFile(context, table, at, count, firstEntry);
    }
  }

  unreadable(structure: 'L1 table' | 'L2 table', hostOffset: number, length: number, view: L1View | null): void {
    const { findings, tally } = this.context;
    if (!this.window.isFirst) {
      return;
    }
    tally.failure ??= 'Input/output error';
    findings.add('unreadable', 'checkError', () => ({
      message: `${length} bytes of the ${structure}${view ? ofSnapshot(view.snapshot) : ''} at ${hex(hostOffset)} cannot be read.`,
      consequence: 'What they map is not known; its clusters are counted as leaked.',
      place: { kind: 'host', hostOffset, length },
      cluster: null,
      guest: null,
    }));
  }

  /**
   * Whether the refcount of the cluster at an offset is one; undefined where it is not known, or is another window's business.
   */
  private hasRefcountOne(hostOffset: number): boolean | undefined {
    const { image, refcounts, loops } = this.context;
    const { first, end, isFirst } = this.window;
    const cluster = Math.floor(hostOffset / image.clusterSize);
    if (cluster >= first && cluster < end) {
      const x = cluster - first;
      const known = refcounts.troubleOf(refcounts.blockOf(cluster)) === undefined;
      return known ? (((loops.map[(x >>> 5) * 2] ?? 0) >>> (x & 31)) & 1) !== 0 : undefined;
    }
    if (cluster <= image.fileClusters || !isFirst) {
      return undefined;
    }
    const refcount = refcounts.lookup(cluster);
    return refcount === undefined ? undefined : refcount === 1;
  }

  /** Whether a reference to this range is a corruption in itself; one that ends less than a cluster past the file's end is not. */
  private pastEnd(hostOffset: number, length: number): boolean {
    return hostOffset + length - this.context.image.fileLength >= this.context.image.clusterSize;
  }

  private mark(hostOffset: number, length: number, active: number, snapshots: number, role: number): void {
    const { clusterSize, fileClusters } = this.context.image;
    const { first, end } = this.window;
    const last = Math.floor((hostOffset + length - 1) / clusterSize);
    if (last >= fileClusters) {
      this.context.tally.beyondEnd = true;
    }
    for (let cluster = Math.max(Math.floor(hostOffset / clusterSize), first); cluster <= last && cluster < end; cluster++) {
      this.refs.add(cluster - first, active, snapshots, role);
    }
  }

  private visited(set: L2TableSet, index: number): VisitedTable {
    const { refcounts, image } = this.context;
    const hostOffset = set.hostOffset[index] ?? 0;
    const active = (set.activeCopied[index] ?? 0) + (set.activePlain[index] ?? 0);
    const known = refcounts.troubleOf(refcounts.blockOf(Math.floor(hostOffset / image.clusterSize))) === undefined;
    return { set, index, hostOffset, active, snapshots: set.snapshots[index] ?? 0, copiedChecks: hostOffset !== 0 && known ? active : 0 };
  }

  /** Entry by entry, without the loops. */
  private eachEntry(table: VisitedTable, at: number, count: number, firstWord: number): void {
    const { wordsPerEntry } = this;
    const { loops, tally, image } = this.context;
    const { view } = loops;
    const { hasDataFile, extendedL2 } = image.metadata;
    const counts = this.window.isFirst && table.active > 0;
    for (let word = 0; word < count; word += wordsPerEntry) {
      const p = at + word * 8;
      const high = view.getInt32(p);
      const low = view.getInt32(p + 4);
      const bitmapHigh = extendedL2 ? view.getInt32(p + 8) : 0;
      const bitmapLow = extendedL2 ? view.getInt32(p + 12) : 0;
      if ((high | low | bitmapHigh | bitmapLow) === 0) {
        continue;
      }
      if (counts && !isCompressed(high) && isAllocated(high, low, extendedL2, hasDataFile)) {
        const offset = hostOffsetOf(high, low);
        tally.allocated += table.active;
        if (this.follows !== 0 && offset !== this.follows) {
          tally.fragmented += table.active;
        }
        this.follows = offset + image.clusterSize;
      }
      this.entry(table, (firstWord + word) / wordsPerEntry, high, low, bitmapHigh, bitmapLow);
    }
  }

  /** One entry that is not plainly in order. If it has a host cluster of its own, that was counted as allocated before. */
  private entry(table: VisitedTable, index: number, high: number, low: number, bitmapHigh: number, bitmapLow: number): void {
    const { image } = this.context;
    const { hasDataFile, extendedL2 } = image.metadata;
    const times = table.active + table.snapshots;
    const report = (kind: FindingKind, message: string, consequence: string): void => {
      this.reportEntry(kind, table, index, high, low, message, consequence, times);
    };
    if (isCompressed(high)) {
      if (isCopied(high)) {
        report('compressedCopied', 'a compressed cluster has the COPIED flag.', CONSEQUENCE.copiedCompressed);
      }
      if (hasDataFile) {
        report('compressedWithDataFile', 'a compressed cluster, although data lies in an external file.', CONSEQUENCE.unreadable);
      } else if ((bitmapHigh | bitmapLow) !== 0) {
        report('compressedSubclusters', 'a compressed cluster has subcluster bits.', CONSEQUENCE.unreadable);
      } else {
        this.compressedData(table, index, high, low);
      }
      return;
    }
    if (hasReservedL2Bits(high, low)) {
      report('reservedBits', 'reserved bits are set.', CONSEQUENCE.reserved);
    }
    if (!isAllocated(high, low, extendedL2, hasDataFile)) {
      if (extendedL2 && bitmapLow !== 0) {
        const message = `the cluster is unallocated, but its subclusters 0x${(bitmapLow >>> 0).toString(16)} are allocated.`;
        report('subclusterConflict', message, CONSEQUENCE.unreadable);
      }
      return;
    }
    if ((bitmapHigh & bitmapLow) !== 0) {
      const message = `the subclusters 0x${((bitmapHigh & bitmapLow) >>> 0).toString(16)} are both allocated and zero.`;
      report('subclusterConflict', message, CONSEQUENCE.unreadable);
    }
    const offset = hostOffsetOf(high, low);
    if (offset % image.clusterSize !== 0) {
      report('misalignedData', `its host offset ${hex(offset)} is not aligned to a cluster.`, CONSEQUENCE.unreadable);
    }
    if (!hasDataFile) {
      this.standardData(table, index, high, low, offset);
    } else if (!isCopied(high)) {
      const message = 'the COPIED flag is clear, which it never is with an external data file.';
      this.reportEntry('copiedFlag', table, index, high, low, message, CONSEQUENCE.copiedClear, table.copiedChecks);
    }
  }

  private standardData(table: VisitedTable, index: number, high: number, low: number, offset: number): void {
    const { image, findings } = this.context;
    const { clusterSize, fileLength } = image;
    if (!this.pastEnd(offset, clusterSize)) {
      this.mark(offset, clusterSize, table.active, table.snapshots, table.active > 0 ? ROLE.data : ROLE.snapshotData);
    } else {
      const message = `its host offset ${hex(offset)} lies past the end of the file at ${hex(fileLength)}.`;
      const times = table.active + table.snapshots;
      this.reportEntry('referencePastEnd', table, index, high, low, message, CONSEQUENCE.lostPastEnd, times);
    }
    const copied = isCopied(high);
    if (table.active > 0 ? table.copiedChecks === 0 : !copied) {
      // Of inactive tables only the dangerous flag is looked at: QEMU does not keep them up to date, and clear is the safe side.
      return;
    }
    const isOne = this.hasRefcountOne(offset);
    if (isOne === undefined || isOne === copied) {
      return;
    }
    const message = `the COPIED flag is ${copied ? 'set' : 'clear'}, but the refcount is ${copied ? 'not ' : ''}one.`;
    const text = l2EntryText(image, table.set, table.index, index, high, low, message, CONSEQUENCE[copied ? 'copiedSet' : 'copiedClear']);
    if (table.active > 0) {
      findings.add('copiedFlag', 'corruption', text, table.copiedChecks);
    } else {
      findings.add('snapshotCopiedFlag', 'extra', text);
    }
  }

  private compressedData(table: VisitedTable, index: number, high: number, low: number): void {
    const { image, tally } = this.context;
    if (this.window.isFirst) {
      tally.allocated += table.active;
      tally.compressed += table.active;
      tally.fragmented += table.active;
    }
    const { hostOffset, length } = compressedExtent(high, low, image.clusterBits);
    if (!this.pastEnd(hostOffset, length)) {
      this.mark(hostOffset, length, table.active, table.snapshots, ROLE.compressed);
      return;
    }
    const message = `its compressed data at ${hex(hostOffset)}, up to ${length} bytes, lies past the end of the file at ${hex(image.fileLength)}.`;
    this.reportEntry('referencePastEnd', table, index, high, low, message, CONSEQUENCE.unreadable, table.active + table.snapshots);
  }

  /** Reports what is wrong with an entry whatever the window. */
  private reportEntry(
    kind: FindingKind,
    { set, index: table }: VisitedTable,
    index: number,
    high: number,
    low: number,
    message: string,
    consequence: string,
    times: number,
  ): void {
    const { image, findings } = this.context;
    if (!this.window.isFirst) {
      return;
    }
    if (findings.wants(kind, 'corruption')) {
      findings.add(kind, 'corruption', l2EntryText(image, set, table, index, high, low, message, consequence), times);
    } else {
      findings.count(kind, 'corruption', times);
    }
  }

  private reportL1Copied(set: L2TableSet, table: number, isOne: boolean, times: number): void {
    const { image, findings } = this.context;
    const { metadata, clusterSize } = image;
    const row = set.l1Index[table] ?? 0;
    const hostOffset = set.hostOffset[table] ?? 0;
    findings.add(
      'copiedFlag',
      'corruption',
      () => ({
        message: `L1 entry ${row} at ${hex(metadata.l1TableOffset + row * 8)}: the COPIED flag is ${isOne ? 'clear' : 'set'}, but the refcount of its L2 table at ${hex(hostOffset)} is ${isOne ? '' : 'not '}one.`,
        consequence: CONSEQUENCE[isOne ? 'copiedClear' : 'copiedSet'],
        place: { kind: 'tableRow', table: { kind: 'l1', view: { kind: 'active' } }, row },
        cluster: { kind: 'host', hostOffset, length: clusterSize },
        guest: { guestOffset: row * metadata.l2Coverage, length: metadata.l2Coverage },
      }),
      times,
    );
  }

  /** Notes which host clusters a table names, so that later windows can leave it unread. */
  private noteBounds({ set, index }: VisitedTable, at: number, count: number, firstWord: number): void {
    const { view } = this.context.loops;
    const { clusterBits, clusterSize } = this.context.image;
    let lowest = firstWord === 0 ? Infinity : (set.lowest[index] ?? 0);
    let end = firstWord === 0 ? 0 : (set.highestEnd[index] ?? 0);
    for (let word = 0; word < count; word += this.wordsPerEntry) {
      const high = view.getInt32(at + word * 8);
      const low = view.getInt32(at + word * 8 + 4);
      if ((high | low) !== 0) {
        const extent = isCompressed(high)
          ? compressedExtent(high, low, clusterBits)
          : { hostOffset: hostOffsetOf(high, low), length: clusterSize };
        lowest = Math.min(lowest, Math.floor(extent.hostOffset / clusterSize));
        end = Math.max(end, Math.ceil((extent.hostOffset + extent.length) / clusterSize));
      }
    }
    set.lowest[index] = Math.min(lowest, 0xffffffff);
    set.highestEnd[index] = Math.min(end, 0xffffffff);
  }
}
