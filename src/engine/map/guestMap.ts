import type { LayerView } from '../../protocol/place';
import type { MapMode } from '../../protocol/inspect';
import type { OpenedChain } from '../chain/layer';
import type { ByteSource } from '../io/source';
import { Pace } from '../pace';
import { MAX_CLASSES, type ClassSink, type ClassSource, type MapClass } from './classSource';
import { FileExtents } from './fileExtents';
import type { LayerMapping } from './layerMapping';
import { layerMappings } from './mappings';
import { ChainWalk, type MapVisitor } from './walk';
import { UNIT, WINDOW_UNITS, type UnitKind, type Window } from './window';

/** Class numbers of a guest map in the mode `state`, in legend order. */
export const GUEST_CLASS = { unallocated: 0, data: 1, zero: 2, compressed: 3, unknown: 4 } as const;

const STATE_CLASSES: readonly MapClass[] = [
  { id: 'unallocated', label: 'Unallocated' },
  { id: 'data', label: 'Data' },
  { id: 'zero', label: 'Zero' },
  { id: 'compressed', label: 'Compressed' },
  { id: 'unknown', label: 'Unknown' },
];

/** Cells of a disk whose active layer has no clusters. */
const RAW_CELL = 65536;

/** What each cluster of the guest disk is, over the whole chain: its state, or the layer that supplies it. */
export class GuestMap implements ClassSource {
  readonly clusters: number;
  readonly clusterSize: number;
  readonly length: number;
  readonly classes: readonly MapClass[];
  private readonly mode: MapMode;
  private readonly names: readonly string[];
  private readonly mappings: readonly LayerMapping[];
  private readonly walk: ChainWalk;
  private readonly files = new Map<ByteSource, FileExtents>();

  /**
   * @throws EngineError `request.invalid` when the view names a snapshot that is not there
   */
  constructor(chain: Pick<OpenedChain, 'layers' | 'complete'>, mode: MapMode, view: LayerView) {
    this.mode = mode;
    this.names = chain.layers.map(({ filename }) => filename);
    this.mappings = layerMappings(chain.layers, view, true);
    this.walk = new ChainWalk(this.mappings, chain.complete);
    const [first] = this.mappings;
    this.clusterSize = first && first.clusterSize > 0 ? first.clusterSize : RAW_CELL;
    this.length = this.mappings[0]?.length ?? 0;
    this.clusters = Math.ceil(this.length / this.clusterSize);
    this.classes = mode === 'state' ? STATE_CLASSES : layerClasses(this.names);
  }

  async scan(from: number, to: number, sink: ClassSink, pace: Pace): Promise<void> {
    const table = new Uint8Array(11);
    for (const kind of Object.values(UNIT)) {
      table[kind] = this.mode === 'state' ? stateOf(kind) : this.layerTableEntry(kind);
    }
    const visitor = new ClassVisitor(
      this.clusterSize,
      table,
      this.mode === 'layer',
      this.classes.length,
      (start, end, depth, each) => {
        this.splitFile(start, end, depth, each);
      },
      sink,
    );
    await this.walk.run(from * this.clusterSize, Math.min(to * this.clusterSize, this.length), visitor, pace);
    visitor.finish();
  }

  async describe(cluster: number): Promise<string> {
    const start = cluster * this.clusterSize;
    const found: { depth: number; kind: number; host: number }[] = [];
    const visitor: MapVisitor = {
      units: (window, from, to) => {
        for (let i = from; i < to; i++) {
          found.push({ depth: window.owner[i]! - 1, kind: window.kind[i]!, host: window.host[i]! });
        }
      },
      uniform: (from, _end, depth, kind) => {
        found.push({ depth, kind, host: from });
      },
    };
    await this.walk.run(start, Math.min(start + this.clusterSize, this.length), visitor, new Pace());
    const [first] = found;
    const uniform = first && found.every(({ depth, kind }) => depth === first.depth && kind === first.kind);
    const words = uniform ? this.words(start, first) : 'several states in one cluster';
    return `Cluster ${cluster}, guest offset 0x${start.toString(16)}: ${words}`;
  }

  private words(guestOffset: number, { depth, kind, host }: { depth: number; kind: number; host: number }): string {
    const name = this.names[depth] ?? '';
    const at = `0x${host.toString(16)} of '${name}'`;
    switch (kind as UnitKind) {
      case UNIT.data:
        return `data at host offset ${at}`;
      case UNIT.zero:
        return `reads as zeroes in '${name}'`;
      case UNIT.zeroAllocated:
        return `reads as zeroes, with a cluster at host offset ${at}`;
      case UNIT.compressed:
        return `compressed in '${name}'`;
      case UNIT.encrypted:
        return `encrypted data in '${name}'`;
      case UNIT.file:
        return `offset ${at}, a raw file`;
      case UNIT.missing:
        return 'not in the layers that are open';
      case UNIT.invalid:
        return `unreadable: ${this.mappings[depth]?.invalidAt(guestOffset).message ?? ''}`;
      default:
        return 'unallocated, reads as zeroes';
    }
  }

  /** In the mode `layer`: 0 where the layer's own number counts. */
  private layerTableEntry(kind: UnitKind): number {
    switch (kind) {
      case UNIT.absent:
      case UNIT.absentAllocated:
        return NO_LAYER;
      case UNIT.missing:
        return this.classes.length - 1;
      default:
        return SUPPLIED;
    }
  }

  private splitFile(start: number, end: number, depth: number, each: (start: number, end: number, value: number) => void): void {
    const source = this.mappings[depth]?.dataSource;
    if (!source || this.mode === 'layer') {
      each(start, end, this.mode === 'layer' ? Math.min(depth + 1, this.classes.length - 2) : GUEST_CLASS.data);
      return;
    }
    let extents = this.files.get(source);
    if (!extents) {
      extents = new FileExtents(source);
      this.files.set(source, extents);
    }
    for (let at = start; at < end;) {
      const extent = extents.at(at);
      const stop = Math.min(end, extent.to);
      each(at, stop, extent.data ? GUEST_CLASS.data : GUEST_CLASS.zero);
      at = stop;
    }
  }
}

/** Marks in the mode `layer`: nobody supplies it; whoever owns the unit does. */
const NO_LAYER = 0;
const SUPPLIED = 255;

function stateOf(kind: UnitKind): number {
  switch (kind) {
    case UNIT.data:
    case UNIT.encrypted:
    case UNIT.file:
      return GUEST_CLASS.data;
    case UNIT.zero:
    case UNIT.zeroAllocated:
      return GUEST_CLASS.zero;
    case UNIT.compressed:
      return GUEST_CLASS.compressed;
    case UNIT.absent:
    case UNIT.absentAllocated:
      return GUEST_CLASS.unallocated;
    case UNIT.missing:
    case UNIT.invalid:
    case UNIT.split:
      return GUEST_CLASS.unknown;
  }
}

/** Class 0 is nobody, 1 the active layer, and so on; the last is what cannot be told. The deepest layers of an absurd chain share one. */
function layerClasses(names: readonly string[]): MapClass[] {
  const shown = names.slice(0, MAX_CLASSES - 2);
  return [
    { id: 'unallocated', label: 'Unallocated' },
    ...shown.map((name, depth) => ({ id: `layer${depth}`, label: name })),
    { id: 'unknown', label: 'Unknown' },
  ];
}

type FileSplitter = (start: number, end: number, depth: number, each: (start: number, end: number, value: number) => void) => void;

/**
 * Turns a walk's units into one class for each cluster. Where a unit is a cluster that is a lookup; where clusters are cut into smaller
 * units, or by the end of an image, the class that most of their bytes have.
 */
class ClassVisitor implements MapVisitor {
  private readonly cell: number;
  private readonly table: Uint8Array;
  private readonly byLayer: boolean;
  private readonly lastLayer: number;
  private readonly splitFile: FileSplitter;
  private readonly sink: ClassSink;
  private readonly chunk = new Uint8Array(WINDOW_UNITS);
  /** Bytes of each class in the cluster that is not complete yet. */
  private readonly bytes = new Float64Array(MAX_CLASSES + 1);
  private partial = -1;

  constructor(cell: number, table: Uint8Array, byLayer: boolean, classCount: number, splitFile: FileSplitter, sink: ClassSink) {
    this.cell = cell;
    this.table = table;
    this.byLayer = byLayer;
    this.lastLayer = classCount - 2;
    this.splitFile = splitFile;
    this.sink = sink;
  }

  units(window: Window, from: number, to: number): void {
    const { unit, base } = window;
    // Clusters that the window's ends cut are counted byte by byte.
    const first = base + from * unit < window.start ? from + 1 : from;
    const end = base + to * unit > window.end ? to - 1 : to;
    if (unit !== this.cell || first >= end) {
      this.pieces(window, from, to);
      return;
    }
    this.pieces(window, from, first);
    this.whole(window, first, end);
    this.pieces(window, end, to);
  }

  uniform(start: number, end: number, depth: number, kind: UnitKind): void {
    this.range(start, end, depth, kind);
  }

  /** Completes a last cluster that the disk's end cuts. */
  finish(): void {
    if (this.partial >= 0) {
      let most = 0;
      for (let value = 0; value <= this.lastLayer + 1; value++) {
        most = this.bytes[value]! > this.bytes[most]! ? value : most;
      }
      this.bytes.fill(0);
      this.sink.fill(this.partial, 1, most);
      this.partial = -1;
    }
  }

  private whole(window: Window, from: number, to: number): void {
    const { kind, owner } = window;
    const { chunk, table, byLayer, lastLayer } = this;
    this.finish();
    const cluster = window.base / this.cell;
    let start = from;
    for (let i = from; i < to; i++) {
      const state = kind[i]!;
      if (state === UNIT.file && !byLayer) {
        this.passOn(cluster + start, i - start);
        const last = i;
        while (i + 1 < to && kind[i + 1] === UNIT.file && owner[i + 1] === owner[last]) {
          i++;
        }
        this.range(window.base + last * this.cell, window.base + (i + 1) * this.cell, owner[last]! - 1, UNIT.file);
        this.finish();
        start = i + 1;
        continue;
      }
      const value = table[state]!;
      chunk[i - start] = byLayer && value === SUPPLIED ? Math.min(owner[i]!, lastLayer) : value;
    }
    this.passOn(cluster + start, to - start);
  }

  private passOn(first: number, count: number): void {
    if (count > 0) {
      this.sink.classes(first, this.chunk, count);
    }
  }

  private pieces(window: Window, from: number, to: number): void {
    const { owner, kind } = window;
    for (let i = from; i < to;) {
      let end = i + 1;
      while (end < to && kind[end] === kind[i] && owner[end] === owner[i]) {
        end++;
      }
      this.range(window.unitStart(i), window.unitEnd(end), owner[i]! - 1, kind[i]!);
      i = end;
    }
  }

  private range(start: number, end: number, depth: number, kind: number): void {
    if (kind === UNIT.file) {
      this.splitFile(start, end, depth, (from, to, value) => {
        this.add(from, to, value);
      });
    } else {
      const value = this.table[kind]!;
      this.add(start, end, this.byLayer && value === SUPPLIED ? Math.min(depth + 1, this.lastLayer) : value);
    }
  }

  private add(start: number, end: number, value: number): void {
    const { cell } = this;
    for (let at = start; at < end;) {
      const cluster = Math.floor(at / cell);
      if (cluster !== this.partial) {
        this.finish();
      }
      if (at % cell === 0 && end - at >= cell) {
        const count = Math.floor((end - at) / cell);
        this.sink.fill(cluster, count, value);
        at += count * cell;
      } else {
        const stop = Math.min(end, (cluster + 1) * cell);
        this.bytes[value]! += stop - at;
        this.partial = cluster;
        at = stop;
      }
    }
  }
}
