import { invalidFormat, type EngineError } from '../errors';
import type { VmdkGrainMap } from '../formats/vmdk/grainMap';
import type { ByteSource } from '../io/source';
import type { LayerMapping } from './layerMapping';
import { UNIT, UNOWNED, type UnitKind, type Window } from './window';

/** Units of a disk without grains, and the largest of one with some. */
const LARGEST_UNIT = 65536;
/** Bytes of extents that are missing or damaged, among others that are not: the largest disk that comes in many. */
const LARGEST_LOST = 8 * 2 ** 40;

/** The grains of a VMDK's extents over windows of the guest disk. */
export class VmdkMapping implements LayerMapping {
  readonly depth: number;
  readonly length: number;
  readonly clusterSize: number;
  readonly grain: number;
  /** `invalid` where so little can be told that the whole is not looked at, however much more the headers claim. */
  readonly remainder: UnitKind | null;
  readonly dataSource: ByteSource | null;
  private readonly map: VmdkGrainMap;
  private readonly name: string;
  private readonly holes: boolean;

  /**
   * @param source the image's own file
   * @param holes whether holes in the files of flat extents are zeroes here
   */
  constructor(depth: number, source: ByteSource, map: VmdkGrainMap, length: number, holes: boolean) {
    this.depth = depth;
    this.length = length;
    this.map = map;
    this.name = source.name;
    this.holes = holes;
    this.clusterSize = unitOf(map);
    this.grain = this.clusterSize;
    const lost = map.extents.reduce((sum, { kind, length: bytes }) => sum + (kind === 'unknown' ? bytes : 0), 0);
    this.remainder = lost > LARGEST_LOST || (lost > 0 && lost === map.size) ? UNIT.invalid : null;
    const sources = new Set(map.extents.map((extent) => extent.source));
    this.dataSource = sources.size === 1 ? (map.extents[0]?.source ?? null) : null;
  }

  nextAllocated(guestOffset: number): number {
    const next = this.remainder === null && guestOffset < this.length ? this.map.nextAllocated(guestOffset) : Infinity;
    // At the start of a unit, so that windows begin there.
    return next === Infinity ? Infinity : next - (next % this.clusterSize);
  }

  fill(window: Window): number {
    const end = Math.min(window.end, this.length);
    let owned = 0;
    for (let at = window.start; at < end;) {
      const {
        class: kind,
        length,
        hostOffset,
      } = this.holes ? this.map.blockStatusWithHoles(at, end - at) : this.map.blockStatus(at, end - at);
      if (kind !== 'unallocated') {
        // Holes begin and end inside units: one that has data in it is data.
        const inward = this.holes && kind === 'zero' && this.map.extentAt(at)?.kind === 'flat';
        const before = (at - window.base) % window.unit;
        const from = (at - window.base) / window.unit;
        const to = (at + length - window.base) / window.unit;
        const first = inward && at > window.start ? Math.ceil(from) : Math.floor(from);
        const last = inward && at + length < end ? Math.floor(to) : Math.ceil(to);
        owned += this.own(window, first, last, KINDS[kind], (hostOffset ?? 0) - before);
      }
      at += length;
    }
    return owned;
  }

  /** QEMU looks for holes in the files of flat extents; an image has either these or sparse ones. */
  holesWithinData(): Promise<boolean> {
    return Promise.resolve(this.map.extents.some(({ kind }) => kind === 'flat'));
  }

  fileAt(guestOffset: number): { readonly source: ByteSource | null; readonly end: number } {
    const extent = this.map.extentAt(guestOffset);
    return extent ? { source: extent.source, end: extent.start + extent.length } : { source: null, end: Infinity };
  }

  invalidAt(guestOffset: number): EngineError {
    const { problem } = this.map.blockStatus(guestOffset, 1);
    return invalidFormat(
      this.name,
      problem?.structure ?? 'grain table',
      problem?.hostOffset ?? 0,
      problem?.message ?? 'It cannot be read.',
    );
  }

  private own(window: Window, first: number, end: number, state: UnitKind, hostOffset: number): number {
    const { owner, kind, host, unit } = window;
    let owned = 0;
    for (let i = first; i < end; i++) {
      if (owner[i] === UNOWNED) {
        owner[i] = this.depth + 1;
        kind[i] = state;
        host[i] = hostOffset + (i - first) * unit;
        owned++;
      }
    }
    return owned;
  }
}

const KINDS = { data: UNIT.data, zero: UNIT.zero, compressed: UNIT.compressed, unknown: UNIT.invalid } as const;

/** The largest power of two that every border between grains and between extents is a multiple of. */
function unitOf({ extents }: VmdkGrainMap): number {
  let unit = LARGEST_UNIT;
  for (const extent of extents) {
    for (const border of [extent.start, extent.kind === 'sparse' ? extent.sparse.grainSize : 0]) {
      while (border % unit !== 0) {
        unit /= 2;
      }
    }
  }
  return unit;
}
