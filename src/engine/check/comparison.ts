import type { FindingKind } from '../../protocol/check';
import type { CheckContext } from './context';
import { hex, type FindingText } from './findings';
import { CLASH, type References } from './references';
import { CLUSTERS_PER_PAIR } from './scanLoops';
import type { Window } from './windowScan';

/** Compares the refcounts of one window with the references that were counted. */
export class Comparison {
  private readonly context: CheckContext;
  private readonly window: Window;
  private readonly refs: References;
  private readonly closely: (block: number) => boolean;

  /**
   * @param closely tells the refcount blocks where the scan's map does not say everything: refcounts other than 0 and 1, or more than
   * one reference
   */
  constructor(context: CheckContext, window: Window, refs: References, closely: (block: number) => boolean) {
    this.context = context;
    this.window = window;
    this.refs = refs;
    this.closely = closely;
  }

  run(): void {
    const { image, refcounts, loops, tally } = this.context;
    const { first } = this.window;
    const end = Math.min(this.window.end, image.fileClusters + (tally.beyondEnd ? 1 : 0));
    for (let block = refcounts.blockOf(first); block * refcounts.blockEntries < end; block++) {
      const from = Math.max(first, block * refcounts.blockEntries);
      const to = Math.min(end, (block + 1) * refcounts.blockEntries);
      if (refcounts.troubleOf(block) !== undefined) {
        this.withoutRefcounts(block, from, to);
      } else if (!this.closely(block)) {
        this.byMap(from, to);
      } else if (refcounts.blockOffset(block) === 0) {
        for (let cluster = from; cluster < to; cluster++) {
          this.cluster(cluster, 0);
        }
      } else {
        const each = (cluster: number, refcount: number): void => {
          this.cluster(cluster, refcount);
        };
        if (!refcounts.readBlock(loops, block, from, to, each)) {
          this.withoutRefcounts(block, from, to);
        }
      }
    }
  }

  /** Where refcounts and references are all 0 or 1: 32 clusters at a time. */
  private byMap(from: number, to: number): void {
    const { loops } = this.context;
    const firstPair = (from - this.window.first) / CLUSTERS_PER_PAIR;
    const wholePairs = Math.floor((to - this.window.first) / CLUSTERS_PER_PAIR);
    for (let pair = loops.nextDifference(firstPair, wholePairs); pair < wholePairs; pair = loops.nextDifference(pair + 1, wholePairs)) {
      this.pair(pair, -1);
    }
    const rest = (to - this.window.first) % CLUSTERS_PER_PAIR;
    if (rest > 0) {
      this.pair(wholePairs, 2 ** rest - 1);
    }
    this.noteHighest(firstPair, wholePairs, rest);
  }

  private pair(pair: number, inRange: number): void {
    const { map } = this.context.loops;
    const one = (map[pair * 2] ?? 0) & inRange;
    const seen = (map[pair * 2 + 1] ?? 0) & inRange;
    for (let differ = one ^ seen; differ !== 0; differ &= differ - 1) {
      const bit = 31 - Math.clz32(differ & -differ);
      this.mismatch(this.window.first + pair * CLUSTERS_PER_PAIR + bit, (one >>> bit) & 1, (seen >>> bit) & 1);
    }
  }

  /** Looks for the last cluster in use, from the end. */
  private noteHighest(firstPair: number, wholePairs: number, rest: number): void {
    const { loops, tally } = this.context;
    const { map } = loops;
    let used = rest > 0 ? ((map[wholePairs * 2] ?? 0) | (map[wholePairs * 2 + 1] ?? 0)) & (2 ** rest - 1) : 0;
    let pair = wholePairs;
    while (used === 0 && pair > firstPair) {
      pair--;
      used = (map[pair * 2] ?? 0) | (map[pair * 2 + 1] ?? 0);
    }
    if (used !== 0) {
      const cluster = this.window.first + pair * CLUSTERS_PER_PAIR + 31 - Math.clz32(used);
      tally.highestCluster = Math.max(tally.highestCluster, cluster);
    }
  }

  private cluster(cluster: number, refcount: number): void {
    const x = cluster - this.window.first;
    const references = this.refs.count(x);
    const counted = this.limit(cluster, references);
    if (refcount > 0 || counted > 0) {
      this.context.tally.highestCluster = Math.max(this.context.tally.highestCluster, cluster);
    }
    if (refcount !== counted) {
      this.mismatch(cluster, refcount, counted);
    }
    if (references > 0) {
      this.reportClashes(cluster, this.refs.clashes(x), refcount < counted);
    }
  }

  /** QEMU cannot count further than a refcount can: every reference beyond is an error of its own. */
  private limit(cluster: number, references: number): number {
    const { image, findings } = this.context;
    const { refcountMax } = image;
    if (references <= refcountMax) {
      return references;
    }
    const text = this.text(
      cluster,
      (users) => `has ${references} references${users}, more than its ${image.metadata.refcountBits}-bit refcount can count.`,
      'A cluster that is still in use will look free after as many of its users are gone.',
    );
    findings.add('refcountOverflow', 'corruption', text, references - refcountMax);
    return refcountMax;
  }

  private mismatch(cluster: number, refcount: number, references: number): void {
    const { findings, tally, image } = this.context;
    if (refcount < references) {
      tally.corrupt.add(cluster, cluster + 1);
      this.report(
        'refcountTooLow',
        'corruption',
        cluster,
        (users) => `has the refcount ${refcount}, but ${times(references, 'reference')}${users}.`,
        refcount === 0
          ? 'The cluster looks free: a write can be given it and overwrite what is there.'
          : 'When one user lets go of it, the cluster looks free or writable while others still use it.',
      );
      return;
    }
    tally.leaked.add(cluster, cluster + 1);
    if (references === 0) {
      tally.abandoned.add(cluster, cluster + 1);
    }
    if (!findings.wants('leak', 'leak')) {
      findings.count('leak', 'leak', 1);
      return;
    }
    findings.add('leak', 'leak', () => ({
      message: `Cluster ${cluster} at ${hex(cluster * image.clusterSize)} has the refcount ${refcount}, but ${times(references, 'reference')}.`,
      consequence: this.context.leftovers.get(cluster)?.consequence ?? 'Space is wasted; no data is known to be lost.',
      ...this.places(cluster),
    }));
  }

  private reportClashes(cluster: number, clashes: number, tooLow: boolean): void {
    if (clashes === 0) {
      return;
    }
    if ((clashes & CLASH.dataIntoMetadata) !== 0) {
      const consequence = 'A write by the guest destroys the metadata there, and metadata shows as guest data.';
      this.report(
        'dataIntoMetadata',
        'extra',
        cluster,
        (users) => `holds metadata, but guest data is mapped there too${users}.`,
        consequence,
      );
    }
    if ((clashes & CLASH.doublyUsed) !== 0 && !tooLow) {
      const consequence = 'A write to one of the guest clusters can change the other.';
      this.report('doublyUsedData', 'extra', cluster, (users) => `is mapped more than once in the active layer${users}.`, consequence);
    }
    if ((clashes & CLASH.tablesOverlap) !== 0 && !tooLow) {
      const consequence = 'The structures overwrite each other.';
      this.report('tableOverlap', 'extra', cluster, (users) => `holds more than one metadata structure${users}.`, consequence);
    }
  }

  /** The refcounts of a block cannot be read: QEMU counts an error for each of its clusters in the file. */
  private withoutRefcounts(block: number, from: number, to: number): void {
    const { refcounts, findings } = this.context;
    const offset = refcounts.blockOffset(block);
    findings.add(
      'unreadable',
      'checkError',
      () => ({
        message: `The refcounts of ${times(to - from, 'cluster')} from ${from} on cannot be read: the refcount block at ${hex(offset)} is ${refcounts.troubleOf(block) ?? 'unreadable'}.`,
        consequence: 'Whether they match the references is not known. QEMU refuses to allocate or free these clusters.',
        place: { kind: 'tableRow', table: { kind: 'refcountTable' }, row: block },
        cluster: null,
        guest: null,
      }),
      to - from,
    );
    for (let cluster = from; cluster < to; cluster++) {
      const x = cluster - this.window.first;
      const references = this.refs.count(x);
      if (references > 0) {
        this.limit(cluster, references);
        this.reportClashes(cluster, this.refs.clashes(x), false);
      }
    }
  }

  private report(
    kind: FindingKind,
    category: 'corruption' | 'extra',
    cluster: number,
    message: (users: string) => string,
    consequence: string,
  ): void {
    const { findings } = this.context;
    if (findings.wants(kind, category)) {
      findings.add(kind, category, this.text(cluster, message, consequence));
    } else {
      findings.count(kind, category, 1);
    }
  }

  private text(cluster: number, message: (users: string) => string, consequence: string): () => FindingText {
    const { owners, image } = this.context;
    owners.want(cluster);
    return () => ({
      message: `Cluster ${cluster} at ${hex(cluster * image.clusterSize)} ${message(owners.of(cluster, ': '))}`,
      consequence,
      ...this.places(cluster),
    });
  }

  private places(cluster: number): Pick<FindingText, 'place' | 'cluster' | 'guest'> {
    const { clusterSize } = this.context.image;
    return {
      place: { kind: 'tableRow', table: { kind: 'refcounts' }, row: cluster },
      cluster: { kind: 'host', hostOffset: cluster * clusterSize, length: clusterSize },
      guest: this.context.owners.guestOf(cluster),
    };
  }
}

function times(count: number, what: string): string {
  return count === 0 ? `no ${what}s` : count === 1 ? `1 ${what}` : `${count} ${what}s`;
}
