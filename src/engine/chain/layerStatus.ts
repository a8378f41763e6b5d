import type { LayerView } from '../../protocol/place';
import { invalidRequest } from '../errors';
import type { LayerStatus } from '../formats/extent';
import { FileTables, Qcow2ClusterMap } from '../formats/qcow2/clusterMap';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import { LIMITS } from '../formats/qcow2/structures';
import { activeL1 } from '../formats/qcow2/tables';
import { QedClusterMap } from '../formats/qed/clusterMap';
import { RawStatus } from '../formats/raw/status';
import { grainSizeOf, mapExtents } from '../formats/vmdk/extents';
import { VmdkGrainMap } from '../formats/vmdk/grainMap';
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
        return new Qcow2ClusterMap(metadata, new FileTables(metadata, activeL1(metadata), cacheBytes), virtualSize);
      }
      const snapshot = readSnapshotTable(metadata).snapshots[view.index];
      if (!snapshot) {
        throw invalidRequest(`${layer.filename} has no internal snapshot with index ${view.index}.`);
      }
      const size = Number.isSafeInteger(snapshot.diskSize) ? Math.floor(snapshot.diskSize / SECTOR_SIZE) * SECTOR_SIZE : 0;
      const location = { hostOffset: snapshot.l1TableOffset, entries: snapshot.l1Size };
      return new Qcow2ClusterMap(metadata, new FileTables(metadata, location, cacheBytes), size);
    }
    case 'qed':
      return new QedClusterMap(detail.metadata, virtualSize, cacheBytes);
    case 'raw':
      return new RawStatus(source);
    case 'vmdk':
      return new VmdkGrainMap(mapExtents(detail.metadata, detail.extents), virtualSize, cacheBytes);
  }
}

/** The file that a layer's data lies in; null when it is a data file that is not open, or when there are several (VMDK). */
export function dataSource({ detail, source }: Layer): ByteSource | null {
  switch (detail.format) {
    case 'qcow2':
      return detail.metadata.hasDataFile ? detail.dataFile : source;
    case 'vmdk':
      return detail.metadata.ownExtent ? source : null;
    case 'qed':
    case 'raw':
      return source;
  }
}

/** Guest bytes below which a layer's allocation does not differ; Infinity where nothing is allocated by units. */
export function allocationUnit({ detail }: Layer): number {
  switch (detail.format) {
    case 'qcow2': {
      const { clusterSize, extendedL2 } = detail.metadata;
      return extendedL2 ? clusterSize / LIMITS.subclustersPerCluster : clusterSize;
    }
    case 'qed':
      return detail.metadata.clusterSize;
    case 'vmdk':
      return grainSizeOf(detail.metadata, detail.extents) ?? Infinity;
    case 'raw':
      return Infinity;
  }
}
