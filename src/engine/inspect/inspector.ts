import type {
  ClusterInspection,
  HexPage,
  Location,
  Overview,
  SnapshotsAndBitmaps,
  TablePage,
  TableRequest,
  TableShape,
} from '../../protocol/inspect';
import type { LayerView, TableId } from '../../protocol/place';
import type { Layer, OpenedChain } from '../chain/layer';
import type { Ciphers } from '../chain/unlock';
import { invalidRequest } from '../errors';
import { readAvailable } from '../io/source';
import { Pace, type PaceOptions } from '../pace';
import { inspectCluster, type ClusterRequest } from './cluster';
import { findBytes } from './findBytes';
import { HostNames } from './host/hostNames';
import { locate } from './locate';
import { activeLayer, overviewOf } from './overview/overview';
import { Qcow2Context } from './qcow2Context';
import { snapshotsAndBitmaps } from './snapshotsAndBitmaps';
import { ImageTables } from './tables/tables';
import type { InspectedLayer } from './trace';

/** Bytes of one hex page at most. */
export const MAX_HEX_BYTES = 64 * 1024;
/** How long a hex page waits for guest offsets; a page without them is better than none. Milliseconds. */
const HEX_PATIENCE = 500;

/**
 * Shows an image, whatever is in it: nothing here throws on content. Reads what is asked for when it is asked for; what is worth keeping
 * is kept until the image is opened anew.
 */
export class Inspector {
  readonly chain: OpenedChain;
  readonly layers: readonly InspectedLayer[];
  readonly tables: ImageTables;
  readonly names: HostNames;
  /** Of the encrypted layers whose data may be shown. */
  ciphers: Ciphers;
  private readonly active: Layer;

  constructor(chain: OpenedChain, ciphers: Ciphers = new Map()) {
    this.chain = chain;
    this.ciphers = ciphers;
    this.layers = chain.layers.map((layer) => ({
      layer,
      qcow2: layer.detail.format === 'qcow2' ? new Qcow2Context(layer, layer.detail, chain.links) : null,
    }));
    this.active = activeLayer(chain);
    const qcow2 = this.layers[0]?.qcow2 ?? null;
    this.tables = new ImageTables(this.active, qcow2);
    this.names = new HostNames(this.active, qcow2);
  }

  /** The active layer's qcow2 context, for whoever looks at its parts. */
  get qcow2(): Qcow2Context | null {
    return this.layers[0]?.qcow2 ?? null;
  }

  overview(): Overview {
    return overviewOf(this.chain, this.ciphers);
  }

  async tableShapes(view: LayerView, options: PaceOptions = {}): Promise<TableShape[]> {
    return this.tables.shapes(view, new Pace(options));
  }

  /** @throws EngineError `request.invalid` for a table that the image does not have */
  tablePage(request: TableRequest): TablePage {
    return this.tables.page(request);
  }

  /** -1 when there is none. @throws EngineError `request.invalid`, `cancelled` */
  async nextUsedRow(table: TableId, row: number, backwards: boolean, options: PaceOptions = {}): Promise<number> {
    return this.tables.nextUsedRow(table, row, backwards, new Pace(options));
  }

  async snapshotsAndBitmaps(options: PaceOptions = {}): Promise<SnapshotsAndBitmaps> {
    return snapshotsAndBitmaps(this.qcow2, new Pace(options));
  }

  /** @throws EngineError `address.invalid`, `cancelled` */
  async locate(address: string, space: 'guest' | 'host', options: PaceOptions = {}): Promise<Location> {
    return locate(this.layers, this.names, address, space, options);
  }

  /** @throws EngineError `address.invalid`, `request.invalid`, `cancelled` */
  async inspectCluster(request: ClusterRequest, options: PaceOptions = {}): Promise<ClusterInspection> {
    return inspectCluster(this, request, options);
  }

  /** Bytes of the active layer's file, and what they belong to. Fewer than asked for at the end of the file. */
  async hex(hostOffset: number, length: number, options: PaceOptions = {}): Promise<HexPage> {
    if (!Number.isSafeInteger(hostOffset) || hostOffset < 0 || !(length >= 0)) {
      throw invalidRequest(`There is no page of ${length} bytes at offset ${hostOffset}.`);
    }
    const bytes = readAvailable(this.active.source, hostOffset, Math.min(Math.floor(length), MAX_HEX_BYTES));
    const regions = bytes.length === 0 ? [] : await this.names.regions(hostOffset, hostOffset + bytes.length, options, HEX_PATIENCE);
    return { hostOffset, bytes, regions };
  }

  /** Null when the bytes do not occur any more. @throws EngineError `request.invalid`, `cancelled` */
  async findBytes(pattern: Uint8Array, from: number, options: PaceOptions = {}): Promise<number | null> {
    return findBytes(this.active.source, pattern, from, options);
  }
}
