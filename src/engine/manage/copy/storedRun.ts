import type { OpenedChain } from '../../chain/layer';
import type { ChainReader } from '../../chain/chainReader';
import type { SuppliedExtent } from '../../chain/readStack';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import type { StoredCluster } from './decodeProtocol';

/** Room for what the largest cluster may be stored as, which is twice its size. */
const ROOM = 4 * 1024 * 1024 + 1024;

/** Neighbouring compressed clusters of one image, as they lie in its file. */
export interface StoredRun {
  readonly metadata: Qcow2Metadata;
  /** Guest bytes. */
  readonly length: number;
  readonly stored: SharedArrayBuffer;
  readonly clusters: readonly StoredCluster[];
}

/** Part of a file, and where in the buffer it is put. */
interface Span {
  readonly hostOffset: number;
  readonly start: number;
  length: number;
}

/** Reads compressed clusters without decoding them. */
export class StoredRuns {
  private readonly reader: ChainReader;
  private readonly chain: OpenedChain;
  private readonly spare: SharedArrayBuffer[];

  /** @param spare buffers that are not used any more; `StoredRun.stored` goes back there */
  constructor(reader: ChainReader, chain: OpenedChain, spare: SharedArrayBuffer[]) {
    this.reader = reader;
    this.chain = chain;
    this.spare = spare;
  }

  /**
   * The run that begins at `offset`, within `length` bytes; the bytes up to the next one that could be a run where there is none.
   * @param at where in the target its bytes belong
   * @throws EngineError as `ChainReader.read`
   */
  next(offset: number, length: number, at: number): StoredRun | number {
    let extent = this.reader.blockStatus(offset, length);
    const metadata = this.storedIn(extent);
    if (!metadata || !extent.compressed || extent.compressed.length > ROOM) {
      return extent.length;
    }
    const { depth } = extent;
    const stored = this.spare.pop() ?? new SharedArrayBuffer(ROOM);
    const clusters: StoredCluster[] = [];
    const spans: Span[] = [];
    let done = 0;
    while (extent.depth === depth && extent.compressed) {
      const { hostOffset, length: storedLength, guestOffset } = extent.compressed;
      const start = place(spans, hostOffset, storedLength);
      if (start === null) {
        break;
      }
      const within = offset + done - guestOffset;
      clusters.push({ start, length: storedLength, within, at: at + done, count: extent.length });
      done += extent.length;
      if (done >= length) {
        break;
      }
      extent = this.reader.blockStatus(offset + done, length - done);
    }
    for (const { hostOffset, start, length: spanLength } of spans) {
      const part = new Uint8Array(stored, start, spanLength);
      // Past the end of the file there are zeroes, as for QEMU.
      part.fill(0, metadata.source.read(part, hostOffset));
    }
    return { metadata, length: done, stored, clusters };
  }

  private storedIn({ depth, compressed }: SuppliedExtent): Qcow2Metadata | null {
    const detail = depth === null ? null : this.chain.layers[depth]?.detail;
    return compressed && detail?.format === 'qcow2' ? detail.metadata : null;
  }
}

/** Where in the buffer the bytes of a cluster go: behind those before it in the file, of which it may share the last sector; null: no room. */
function place(spans: Span[], hostOffset: number, length: number): number | null {
  const last = spans.at(-1);
  const past = last ? hostOffset - last.hostOffset : -1;
  if (last && past >= 0 && past <= last.length) {
    if (last.start + past + length > ROOM) {
      return null;
    }
    last.length = Math.max(last.length, past + length);
    return last.start + past;
  }
  const start = last ? last.start + last.length : 0;
  if (start + length > ROOM) {
    return null;
  }
  spans.push({ hostOffset, start, length });
  return start;
}
