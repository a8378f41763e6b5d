import type { ChainLink, ImageFormat } from '../../../src/protocol/chain';
import { readDetail, virtualSizeOf } from '../../../src/engine/chain/detail';
import type { OpenedChain } from '../../../src/engine/chain/layer';
import { summarizeImage } from '../../../src/engine/chain/summary';
import type { BuiltImage } from '../../../src/engine/formats/qcow2/builder';
import type { ByteSource } from '../../../src/engine/io/source';
import { Inspector } from '../../../src/engine/inspect/inspector';

interface Piece {
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
}

/** A sparse file in memory: what no piece covers is a hole. Later pieces lie over earlier ones. */
export class SparseSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  private readonly pieces: readonly Piece[];
  /** Bytes asked for so far, for tests that something does not read much. */
  bytesRead = 0;

  constructor(pieces: readonly Piece[], size: number, name = 'memory.img') {
    this.pieces = pieces;
    this.size = size;
    this.name = name;
  }

  get allocatedBytes(): number {
    return this.pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  read(target: Uint8Array, hostOffset: number): number {
    // Offsets past 2^53-1 are Infinity where they come from a header; there is nothing.
    if (target.length > 0 && hostOffset !== Infinity && !(Number.isInteger(hostOffset) && hostOffset >= 0)) {
      throw new RangeError(`a read at ${hostOffset}`);
    }
    const length = target.length === 0 ? 0 : Math.max(0, Math.min(target.length, this.size - hostOffset));
    this.bytesRead += length;
    target.fill(0, 0, length);
    for (const { hostOffset: start, bytes } of this.pieces) {
      const from = Math.max(start, hostOffset);
      const to = Math.min(start + bytes.length, hostOffset + length);
      if (from < to) {
        target.set(bytes.subarray(from - start, to - start), from - hostOffset);
      }
    }
    return length;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    const rest = this.size - hostOffset;
    const covering = this.pieces.find(({ hostOffset: start, bytes }) => start <= hostOffset && hostOffset < start + bytes.length);
    if (covering) {
      return { data: true, length: Math.min(rest, covering.hostOffset + covering.bytes.length - hostOffset) };
    }
    const next = Math.min(...this.pieces.filter(({ hostOffset: start }) => start > hostOffset).map(({ hostOffset: start }) => start));
    return { data: false, length: Math.min(rest, next - hostOffset) };
  }

  close(): void {
    // Nothing is open.
  }
}

/** A built image as a file in memory, with patches laid over it. */
export function sourceOf(image: BuiltImage, patches: readonly Piece[] = [], size = image.layout.fileSize): SparseSource {
  return new SparseSource([...image.pieces, ...patches], size);
}

/** A chain of files in memory, active layer first. */
export function chainOf(sources: readonly ByteSource[], formats: readonly ImageFormat[]): OpenedChain {
  const links: ChainLink[] = [];
  const layers = sources.map((source, depth) => {
    const detail = readDetail(source, formats[depth] ?? null);
    const virtualSize = virtualSizeOf(source, detail);
    const usage = { known: true, inUse: false, writing: false, holders: [] };
    const path = `/memory/${depth}.img`;
    const link: ChainLink = {
      path,
      recordedName: path,
      role: depth === 0 ? 'active' : 'backing',
      state: { kind: 'open' },
      image: summarizeImage({ source, detail, virtualSize, readOnly: false, usage }),
    };
    links.push(link);
    return { depth, path, source, virtualSize, detail, link, filename: path, formatRecorded: true };
  });
  return { layers, links, complete: true, close: () => undefined };
}

/** An inspector on one file in memory. */
export function inspect(source: ByteSource, format: ImageFormat = 'qcow2'): Inspector {
  return new Inspector(chainOf([source], [format]));
}

/** A number as big-endian bytes. */
export function bigEndian(value: bigint | number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) {
    bytes[length - 1 - index] = Number((BigInt(value) >> BigInt(8 * index)) & 0xffn);
  }
  return bytes;
}
