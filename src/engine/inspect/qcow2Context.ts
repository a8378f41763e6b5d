import type { ChainLink } from '../../protocol/chain';
import type { LayerView } from '../../protocol/place';
import { invalidRequest } from '../errors';
import type { Layer } from '../chain/layer';
import { readBitmapDirectory, type BitmapDirectory } from '../formats/qcow2/bitmaps';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable, type SnapshotTable } from '../formats/qcow2/snapshots';
import { activeL1, type L1Location } from '../formats/qcow2/tables';
import type { ByteSource } from '../io/source';
import type { EntryContext } from './tables/qcow2Entries';
import { lookUpRefcount } from './tables/refcountLookup';
import { visible } from './wording';

/** One mapping of guest to host: the active layer's or a snapshot's. */
export interface MappedView {
  readonly view: LayerView;
  readonly l1: L1Location;
  /** Bytes of the disk as this view has it. */
  readonly guestSize: number;
  /** How titles name it: empty for the active layer, ` of snapshot 2 'name'`. */
  readonly suffix: string;
}

/** A qcow2 layer with what is read of it only when somebody looks: snapshots, bitmaps, single refcounts. */
export class Qcow2Context {
  readonly metadata: Qcow2Metadata;
  /** Where guest data lies; null when an external data file is not open. */
  readonly dataSource: ByteSource | null;
  /** Absolute path of the external data file; null without one, or when it is not open. */
  readonly dataPath: string | null;
  private readonly layer: Layer;
  private snapshotTable: SnapshotTable | null = null;
  private directory: BitmapDirectory | null = null;

  constructor(layer: Layer, detail: Extract<Layer['detail'], { format: 'qcow2' }>, links: readonly ChainLink[]) {
    this.layer = layer;
    // The link of a data file follows that of its image.
    const next = links[links.indexOf(layer.link) + 1];
    this.dataPath = next?.role === 'data-file' && next.state.kind === 'open' ? next.path : null;
    this.metadata = detail.metadata;
    this.dataSource = detail.metadata.hasDataFile ? detail.dataFile : layer.source;
  }

  get snapshots(): SnapshotTable {
    this.snapshotTable ??= this.metadata.tablesReadable ? readSnapshotTable(this.metadata) : { snapshots: [], length: 0, problems: [] };
    return this.snapshotTable;
  }

  get bitmaps(): BitmapDirectory {
    this.directory ??= readBitmapDirectory(this.metadata);
    return this.directory;
  }

  /** @throws EngineError `request.invalid` for a snapshot that does not exist */
  view(view: LayerView): MappedView {
    if (view.kind === 'active') {
      return { view, l1: activeL1(this.metadata), guestSize: this.layer.virtualSize, suffix: '' };
    }
    const snapshot = this.snapshots.snapshots[view.index];
    if (!snapshot) {
      throw invalidRequest(`'${this.metadata.source.name}' has no snapshot number ${view.index}.`);
    }
    const { l1TableOffset, l1Size, diskSize, id, name } = snapshot;
    return {
      view,
      l1: { hostOffset: l1TableOffset, entries: l1Size },
      guestSize: Number.isSafeInteger(diskSize) ? diskSize : this.layer.virtualSize,
      suffix: ` of snapshot ${visible(id)} '${visible(name)}'`,
    };
  }

  /** What an L1 entry is judged by. */
  l1Context(view: LayerView): EntryContext {
    return {
      metadata: this.metadata,
      dataSize: this.metadata.source.size,
      dataPath: null,
      refcount: (hostOffset) => this.refcount(hostOffset),
      judgeCopied: view.kind === 'active',
    };
  }

  /** What an L2 entry is judged by: clusters of an external data file are not counted. */
  l2Context(view: LayerView): EntryContext {
    const { hasDataFile } = this.metadata;
    return {
      metadata: this.metadata,
      dataSize: this.dataSource?.size ?? null,
      dataPath: this.dataPath,
      refcount: hasDataFile ? () => null : (hostOffset) => this.refcount(hostOffset),
      judgeCopied: view.kind === 'active',
    };
  }

  private refcount(hostOffset: number): bigint | null {
    const { clusterSize, source } = this.metadata;
    // About clusters past the end of the file something worse is said than their refcount.
    return hostOffset < source.size ? lookUpRefcount(this.metadata, Math.floor(hostOffset / clusterSize)).count : null;
  }
}
