import type { GuestExtent, LayerStatus } from '../formats/extent';
import { rawVirtualSize } from '../formats/raw/size';
import { mapExtents } from '../formats/vmdk/extents';
import { VmdkGrainMap } from '../formats/vmdk/grainMap';
import { invalidFormat } from '../errors';
import type { ByteSource } from '../io/source';
import { seemsPreallocated } from '../map/preallocation';
import type { Pace } from '../pace';
import type { Layer, LayerDetail } from './layer';
import { dataSource, layerStatus } from './layerStatus';

/*
 * Block status to the bit as QEMU's block layer has it (7.2: block/io.c, bdrv_co_common_block_status_above). `qemu-img compare -s`
 * compares the plain numbers, and one of their bits tells whether the answer reached the end of the disk; so the length of an answer,
 * which depends on how a driver reads its tables, matters too. Nothing but the strict comparison needs this.
 */

/** Bits of a status, as in QEMU's block headers. */
export const STATUS = { data: 0x01, zero: 0x02, offsetValid: 0x04, allocated: 0x10, eof: 0x20 } as const;

export interface QemuStatus {
  /** STATUS bits. */
  readonly flags: number;
  /** Bytes. */
  readonly length: number;
}

interface DriverStatus extends QemuStatus {
  readonly hostOffset: number | null;
  /** The file that it counts in. */
  readonly source: ByteSource | null;
}

const INT_MAX = 2 ** 31 - 1;
/** QEMU reads L2 tables in slices of this size, and no answer crosses one. */
const L2_SLICE_BYTES = 65536;

/** The chain's status as `bdrv_block_status_above` answers with no base and no wish for the place. */
export class QemuChainStatus {
  private readonly nodes: readonly Node[];

  private constructor(nodes: readonly Node[]) {
    this.nodes = nodes;
  }

  /** Looks at every qcow2 layer's refcounts to see whether its metadata was preallocated. @throws EngineError `cancelled`, `file.io` */
  static async open(layers: readonly Layer[], pace: Pace): Promise<QemuChainStatus> {
    const nodes: Node[] = [];
    for (const layer of layers) {
      const { detail } = layer;
      const recurse = detail.format === 'qcow2' ? await seemsPreallocated(detail.metadata, pace) : isFlat(detail);
      nodes.push(new Node(layer, recurse, nodes.length + 1 < layers.length));
    }
    return new QemuChainStatus(nodes);
  }

  /** @throws EngineError `format.invalid` where a table entry stops the driver */
  at(offset: number, length: number): QemuStatus {
    const top = this.nodes[0]!;
    let status = top.status(offset, length, this.nodes[1] ?? null);
    if (status.length === 0 || (status.flags & STATUS.allocated) !== 0) {
      return status;
    }
    const eof = (status.flags & STATUS.eof) !== 0 ? offset + status.length : -1;
    for (let depth = 1; depth < this.nodes.length; depth++) {
      const bytes = status.length;
      status = this.nodes[depth]!.status(offset, bytes, this.nodes[depth + 1] ?? null);
      if (status.length === 0) {
        // Past the end of a short backing file: zeroes that count as allocated there.
        status = { flags: STATUS.zero | STATUS.allocated, length: bytes };
        break;
      }
      if ((status.flags & STATUS.allocated) !== 0) {
        status = { flags: status.flags & ~STATUS.eof, length: status.length };
        break;
      }
    }
    return offset + status.length === eof ? { flags: status.flags | STATUS.eof, length: status.length } : status;
  }
}

/** One image, with what the generic code adds to its driver's answer. */
class Node {
  readonly size: number;
  private readonly layer: Layer;
  private readonly driver: LayerStatus;
  private readonly source: ByteSource | null;
  /** Whether the file is asked for holes within data. */
  private readonly recurse: boolean;
  private readonly hasBacking: boolean;
  /** Guest bytes that no answer reaches across; Infinity where there are none such. */
  private readonly window: number;

  constructor(layer: Layer, recurse: boolean, hasBacking: boolean) {
    this.layer = layer;
    this.driver = layerStatus(layer);
    this.size = this.driver.size;
    this.source = dataSource(layer);
    this.recurse = recurse;
    this.hasBacking = hasBacking;
    this.window = windowOf(layer);
  }

  status(offset: number, length: number, backing: Node | null): QemuStatus {
    if (offset >= this.size) {
      return { flags: STATUS.eof, length: 0 };
    }
    const answer = this.driverStatus(offset, Math.min(length, this.size - offset));
    let { flags, length: reached } = answer;
    if ((flags & (STATUS.data | STATUS.zero)) !== 0) {
      flags |= STATUS.allocated;
    } else if (!this.hasBacking || (backing && offset >= backing.size)) {
      flags |= STATUS.zero;
    }
    if (this.recurse && (flags & STATUS.data) !== 0 && answer.hostOffset !== null && answer.source) {
      const file = fileStatus(answer.source, answer.hostOffset, reached);
      const isZero = (file.flags & STATUS.zero) !== 0;
      if ((file.flags & STATUS.eof) === 0 || (file.length > 0 && !isZero)) {
        reached = file.length;
        flags |= file.flags & STATUS.zero;
      } else {
        flags |= STATUS.zero;
      }
    }
    return { flags: offset + reached === this.size ? flags | STATUS.eof : flags, length: reached };
  }

  private driverStatus(offset: number, length: number): DriverStatus {
    const windowEnd = this.windowEnd(offset);
    const limit = Math.min(length, windowEnd - offset, this.layer.detail.format === 'qcow2' ? INT_MAX : Infinity);
    const first = this.known(this.driver.blockStatus(offset, limit));
    let reached = first.length;
    while (reached < limit && first.class !== 'compressed') {
      const next = this.driver.blockStatus(offset + reached, limit - reached);
      if (next.class !== first.class || next.hostOffset !== (first.hostOffset === null ? null : first.hostOffset + reached)) {
        break;
      }
      reached += next.length;
    }
    // Of encrypted data the driver does not say where it lies.
    const { detail } = this.layer;
    const hostOffset = detail.format === 'qcow2' && detail.metadata.cryptMethod !== 0 ? null : first.hostOffset;
    return { flags: this.flagsOf(first, hostOffset), length: reached, hostOffset, source: first.source ?? this.source };
  }

  private windowEnd(offset: number): number {
    if (this.driver instanceof VmdkGrainMap) {
      return this.driver.unitEnd(offset);
    }
    return this.window === Infinity ? Infinity : (Math.floor(offset / this.window) + 1) * this.window;
  }

  private flagsOf(extent: GuestExtent, hostOffset: number | null): number {
    const place = hostOffset === null ? 0 : STATUS.offsetValid;
    switch (extent.class) {
      case 'data':
        return STATUS.data | place;
      case 'compressed':
        return STATUS.data;
      case 'zero':
        return STATUS.zero | place;
      case 'unallocated':
      case 'unknown':
        return place;
    }
  }

  private known(extent: GuestExtent): GuestExtent {
    if (extent.problem) {
      const { structure, hostOffset, message } = extent.problem;
      throw invalidFormat(this.layer.source.name, structure, hostOffset, message);
    }
    return extent;
  }
}

/** What the protocol node below answers for a place in its file. */
function fileStatus(source: ByteSource, offset: number, length: number): QemuStatus {
  const end = rawVirtualSize(source.size);
  if (offset >= end) {
    return { flags: STATUS.eof, length: 0 };
  }
  const extent = offset >= source.size ? { length: end - offset, data: false } : source.extentAt(offset);
  const reached = Math.min(length, extent.length, end - offset);
  return { flags: (extent.data ? STATUS.data : STATUS.zero) | (offset + reached === end ? STATUS.eof : 0), length: reached };
}

/** QEMU looks for holes in flat extents; an image has either these or sparse ones. */
function isFlat(detail: LayerDetail): boolean {
  return detail.format === 'vmdk' && mapExtents(detail.metadata, detail.extents).some(({ kind }) => kind === 'flat');
}

function windowOf({ detail }: Layer): number {
  switch (detail.format) {
    case 'qcow2': {
      const { clusterSize, l2EntryBytes } = detail.metadata;
      return (Math.min(clusterSize, L2_SLICE_BYTES) / l2EntryBytes) * clusterSize;
    }
    case 'qed':
      return detail.metadata.l2Coverage;
    case 'vmdk':
    // Borders of grains count from their extent's begin.
    case 'raw':
      return Infinity;
  }
}
