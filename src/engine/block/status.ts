import type { LayerView } from '../../protocol/place';
import { invalidRequest } from '../errors';
import { unknownExtent, type LayerStatus } from '../formats/extent';
import { Qcow2ClusterMap } from '../formats/qcow2/clusterMap';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import { activeL1 } from '../formats/qcow2/tables';
import { QedClusterMap } from '../formats/qed/clusterMap';
import { RawStatus } from '../formats/raw/status';
import { SECTOR_SIZE } from '../formats/raw/size';
import type { ByteSource } from '../io/source';
import type { Layer } from './layer';

export const ACTIVE_VIEW: LayerView = { kind: 'active' };

/** Bound for the tables that one layer keeps in memory. */
export const DEFAULT_CACHE_BYTES = 1024 * 1024;

/**
 * A layer's own allocation, without what lies below it. Lenient: what cannot be told is an extent of the class `unknown`.
 * @param view an internal snapshot is looked at like the active layer; only qcow2 has them
 * @throws EngineError `request.invalid` for a snapshot that there is none of; `file.io`
 */
export function layerStatus(layer: Layer, view: LayerView = ACTIVE_VIEW, cacheBytes = DEFAULT_CACHE_BYTES): LayerStatus {
  const { detail, source, virtualSize } = layer;
  if (view.kind === 'snapshot' && detail.format !== 'qcow2') {
    throw invalidRequest(`${layer.filename} has no internal snapshots.`);
  }
  switch (detail.format) {
    case 'qcow2': {
      const { metadata } = detail;
      if (view.kind === 'active') {
        return new Qcow2ClusterMap(metadata, activeL1(metadata), virtualSize, cacheBytes);
      }
      const snapshot = readSnapshotTable(metadata).snapshots[view.index];
      if (!snapshot) {
        throw invalidRequest(`${layer.filename} has no internal snapshot with index ${view.index}.`);
      }
      const size = Number.isSafeInteger(snapshot.diskSize) ? Math.floor(snapshot.diskSize / SECTOR_SIZE) * SECTOR_SIZE : 0;
      return new Qcow2ClusterMap(metadata, { hostOffset: snapshot.l1TableOffset, entries: snapshot.l1Size }, size, cacheBytes);
    }
    case 'qed':
      return new QedClusterMap(detail.metadata, virtualSize, cacheBytes);
    case 'raw':
      return new RawStatus(source);
    case 'vmdk':
      return {
        size: virtualSize,
        blockStatus: (guestOffset, length) =>
          unknownExtent(Math.min(length, virtualSize - guestOffset), 'VMDK grain directory', 0, 'The data of VMDK images is not read.'),
      };
  }
}

/** The file that a layer's data lies in; null when it is a data file that is not open. */
export function dataSource(layer: Layer): ByteSource | null {
  return layer.detail.format === 'qcow2' && layer.detail.metadata.hasDataFile ? layer.detail.dataFile : layer.source;
}
