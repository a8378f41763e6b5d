import type { ClusterEntry } from './clusterEntry';
import type { GuestEntries } from './guestEntries';
import type { ImageParts } from './imageParts';
import { load, type Steps } from './steps';

/** Clusters are taken for at most this many bytes at a time. */
const MOST_BYTES = 2 * 1024 * 1024;

/** Writes guest bytes: in place where the cluster is the guest's alone, else into clusters that are then linked. */
export class GuestWriter {
  private readonly parts: ImageParts;
  private readonly entries: GuestEntries;
  private readonly clusterSize: number;

  constructor(parts: ImageParts, entries: GuestEntries) {
    this.parts = parts;
    this.entries = entries;
    this.clusterSize = parts.metadata.clusterSize;
  }

  *write(guestOffset: number, bytes: Uint8Array): Steps<void> {
    const { clusterSize } = this;
    const end = guestOffset + bytes.length;
    for (let at = guestOffset; at < end;) {
      const first = Math.floor(at / clusterSize) * clusterSize;
      const limit = Math.min(end, this.stepEnd(at));
      yield* this.parts.order.makeRoom();
      const from = at;
      at += yield* this.parts.claims.during(first, Math.ceil(limit / clusterSize) * clusterSize, () =>
        this.writeClaimed(from, bytes.subarray(from - guestOffset, limit - guestOffset)),
      );
    }
  }

  /** As far as one step goes: not past a slice of an L2 table, nor past `MOST_BYTES`. */
  stepEnd(guestOffset: number): number {
    const most = Math.floor(guestOffset / this.clusterSize) * this.clusterSize + Math.max(this.clusterSize, MOST_BYTES);
    return Math.min(this.entries.sliceEnd(guestOffset), most);
  }

  /** Writes the beginning of a range that the caller has claimed. Returns how many bytes it was. */
  *writeClaimed(at: number, bytes: Uint8Array): Steps<number> {
    const end = at + bytes.length;
    const place = yield* load(() => this.inPlace(at, end));
    if (place) {
      this.entries.requireNoMetadata(place.host, place.length);
      yield* this.parts.data.writeHost(bytes.subarray(0, place.length), place.host, at);
      return place.length;
    }
    yield* this.entries.provide(at);
    const { first, run } = yield* load(() => this.gather(at, end));
    const length = Math.min(end, (Math.floor(at / this.clusterSize) + run) * this.clusterSize) - at;
    if (first.placed && first.copied && !first.compressed) {
      yield* this.fill(at, bytes.subarray(0, length), first.host, false, [first]);
      yield* this.link(at, length, first.host, false);
      return length;
    }
    yield* this.writeMoved(at, bytes.subarray(0, length), run);
    return length;
  }

  /** Writes bytes and what is around them to new clusters, as many as one step goes. */
  *writeMoved(at: number, bytes: Uint8Array, clusters: number): Steps<void> {
    const { clusterSize } = this;
    const { metadata, refcounts, data } = this.parts;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const host = metadata.hasDataFile ? start : yield* refcounts.allocate(clusters);
    try {
      const lastAt = start + (clusters - 1) * clusterSize;
      const entries = yield* load(() =>
        clusters === 1 ? [this.entries.entryAt(start)] : [this.entries.entryAt(start), this.entries.entryAt(lastAt)],
      );
      yield* this.fill(at, bytes, host, host >= data.file.size, entries);
    } catch (error) {
      if (!metadata.hasDataFile) {
        yield* refcounts.giveBack(host / clusterSize, clusters);
      }
      throw error;
    }
    yield* this.link(at, bytes.length, host, true);
  }

  /** Bytes from `at` on that lie one after the other in clusters which are the guest's alone. */
  inPlace(at: number, end: number): { readonly host: number; readonly length: number } | null {
    const { clusterSize } = this;
    const { codec, tables, metadata } = this.parts;
    if (!this.entries.find(at) || !tables.isCopied(Math.floor(at / metadata.l2Coverage))) {
      return null;
    }
    let host = -1;
    let reached = at;
    while (reached < end) {
      const start = Math.floor(reached / clusterSize) * clusterSize;
      const entry = this.entries.entryAt(start);
      const needed = codec.touched(reached - start, Math.min(end, start + clusterSize) - start);
      if (entry.compressed || !entry.placed || !entry.copied || (needed & ~entry.allocated) !== 0) {
        break;
      }
      if (host >= 0 && entry.host + reached - start !== host + reached - at) {
        break;
      }
      host = host < 0 ? entry.host + at - start : host;
      reached = Math.min(end, start + clusterSize);
    }
    return reached > at ? { host, length: reached - at } : null;
  }

  /** The first cluster's entry, and how many clusters from there on are written the same way. */
  private gather(at: number, end: number): { readonly first: ClusterEntry; readonly run: number } {
    const { clusterSize } = this;
    const moves = ({ placed, copied, compressed }: ClusterEntry) => compressed || !placed || !copied;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const first = this.entries.entryAt(start);
    let run = 1;
    if (moves(first)) {
      while (start + run * clusterSize < end && moves(this.entries.entryAt(start + run * clusterSize))) {
        run++;
      }
    }
    return { first, run };
  }

  /**
   * Writes bytes to host clusters, and around them in the first and the last one what the guest sees there now.
   * @param entries of the first and the last cluster
   */
  private *fill(at: number, bytes: Uint8Array, host: number, fresh: boolean, entries: readonly ClusterEntry[]): Steps<void> {
    const { clusterSize } = this;
    const { codec, data } = this.parts;
    const end = at + bytes.length;
    const start = Math.floor(at / clusterSize) * clusterSize;
    const last = Math.floor((end - 1) / clusterSize) * clusterSize;
    this.entries.requireNoMetadata(host, last + clusterSize - start);
    const around: [number, number][] = [];
    for (const [index, entry] of entries.entries()) {
      const cluster = index === 0 ? start : last;
      const moved = entry.compressed || !entry.placed || !entry.copied;
      for (let unit = 0; unit < codec.units; unit++) {
        const from = cluster + unit * codec.unitBytes;
        const to = from + codec.unitBytes;
        const hit = from < end && to > at;
        if (!hit && !(moved && ((entry.allocated >>> unit) & 1) !== 0)) {
          continue;
        }
        addRange(around, from, hit ? Math.min(to, Math.max(from, at)) : to);
        if (hit) {
          addRange(around, Math.max(from, Math.min(to, end)), to);
        }
      }
    }
    let whole = bytes;
    let wholeFrom = at;
    for (const [from, to] of around) {
      if (yield* data.isZero(this.parts.map(), from, to - from)) {
        yield* data.zeroHost(host + from - start, from, to - from, fresh);
        continue;
      }
      const content = new Uint8Array(to - from);
      yield* data.read(this.parts.map(), from, content);
      if (to === wholeFrom) {
        whole = joined(content, whole);
        wholeFrom = from;
      } else if (from === wholeFrom + whole.length) {
        whole = joined(whole, content);
      } else {
        yield* data.writeHost(content, host + from - start, from);
      }
    }
    yield* data.writeHost(whole, host + wholeFrom - start, wholeFrom);
  }

  /** Makes the entries lead to host clusters that were filled, and gives up what they led to before. */
  private *link(at: number, length: number, host: number, moved: boolean): Steps<void> {
    const { clusterSize } = this;
    const { codec } = this.parts;
    const end = at + length;
    const start = Math.floor(at / clusterSize) * clusterSize;
    yield* load(() => this.entries.find(start));
    for (let cluster = start; cluster < end; cluster += clusterSize) {
      const old = this.entries.entryAt(cluster);
      const written = codec.touched(Math.max(at - cluster, 0), Math.min(end - cluster, clusterSize));
      const allocated = (written | old.allocated) >>> 0;
      const zero = (old.zero & ~allocated) >>> 0;
      this.entries.replace(
        cluster,
        old,
        { compressed: false, placed: true, host: host + cluster - start, length: 0, copied: true, allocated, zero },
        moved,
        false,
      );
    }
    // The data must be on the disk before the entry shows it.
    this.parts.refcounts.barrier = true;
  }
}

/** Ranges come in ascending order. */
function addRange(ranges: [number, number][], from: number, to: number): void {
  const last = ranges.at(-1);
  if (to <= from) {
    return;
  }
  if (last?.[1] === from) {
    last[1] = to;
  } else {
    ranges.push([from, to]);
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
