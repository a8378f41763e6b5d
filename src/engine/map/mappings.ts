import type { LayerView } from '../../protocol/place';
import type { Layer } from '../chain/layer';
import { invalidRequest } from '../errors';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import { activeL1, type L1Location } from '../formats/qcow2/tables';
import { mapExtents } from '../formats/vmdk/extents';
import { VmdkGrainMap } from '../formats/vmdk/grainMap';
import { FileMapping } from './fileMapping';
import type { LayerMapping } from './layerMapping';
import { Qcow2Mapping } from './qcow2Mapping';
import { QedMapping } from './qedMapping';
import { EntryBuffer } from './tableAccess';
import { VmdkMapping } from './vmdkMapping';

const SECTOR = 512;
const CHUNK = 64 * 1024;

export const ACTIVE_VIEW: LayerView = { kind: 'active' };

/**
 * How every layer of a chain maps, the active one seen through `view`. Entries that cannot be walked (a header without a usable cluster
 * size) map nothing.
 * @param holes whether holes in the files of flat extents are shown as zeroes; QEMU asks for them later
 * @throws EngineError `request.invalid` when the view names a snapshot that is not there
 */
export function layerMappings(layers: readonly Layer[], view: LayerView, holes = false): LayerMapping[] {
  const buffer = new EntryBuffer(CHUNK);
  const mappings = layers.map((layer, depth) => layerMapping(layer, depth, depth === 0 ? view : ACTIVE_VIEW, buffer, holes));
  // Below a layer that has an answer for everything nothing is asked.
  const last = mappings.findIndex(({ remainder }) => remainder !== null);
  return last < 0 ? mappings : mappings.slice(0, last + 1);
}

/** Guest bytes that a layer shows: whole sectors, as QEMU counts (a raw file's last sector is filled up, a header's is cut). */
export function guestLength(layer: Layer, view: LayerView): number {
  if (layer.detail.format === 'raw') {
    return Math.ceil(layer.virtualSize / SECTOR) * SECTOR;
  }
  const size = view.kind === 'snapshot' ? snapshotOf(layer, view.index).diskSize : layer.virtualSize;
  return Number.isSafeInteger(size) ? size - (size % SECTOR) : 0;
}

function layerMapping(layer: Layer, depth: number, view: LayerView, buffer: EntryBuffer, holes: boolean): LayerMapping {
  const { detail, source } = layer;
  const length = guestLength(layer, view);
  switch (detail.format) {
    case 'qcow2': {
      const { metadata, dataFile } = detail;
      const l1 = metadata.tablesReadable ? l1Of(layer, view) : { hostOffset: 0, entries: 0 };
      return new Qcow2Mapping({ depth, metadata, dataFile, l1, length, buffer });
    }
    case 'qed':
      return new QedMapping(depth, detail.metadata, length, buffer);
    case 'vmdk': {
      requireActive(view);
      const extents = mapExtents(detail.metadata, detail.extents);
      return new VmdkMapping(depth, source, new VmdkGrainMap(extents, length, CHUNK), length, holes);
    }
    case 'raw':
      requireActive(view);
      return new FileMapping(depth, source, length);
  }
}

function l1Of(layer: Layer, view: LayerView): L1Location {
  if (layer.detail.format !== 'qcow2') {
    throw invalidRequest('Only qcow2 images have L1 tables of snapshots.');
  }
  if (view.kind === 'active') {
    return activeL1(layer.detail.metadata);
  }
  const { l1TableOffset, l1Size } = snapshotOf(layer, view.index);
  return { hostOffset: l1TableOffset, entries: l1Size };
}

function snapshotOf(layer: Layer, index: number): ReturnType<typeof readSnapshotTable>['snapshots'][number] {
  const snapshot = layer.detail.format === 'qcow2' ? readSnapshotTable(layer.detail.metadata).snapshots[index] : undefined;
  if (!snapshot) {
    throw invalidRequest(`${layer.source.name} has no internal snapshot ${index}.`);
  }
  return snapshot;
}

function requireActive(view: LayerView): void {
  if (view.kind === 'snapshot') {
    throw invalidRequest('Only qcow2 images have internal snapshots.');
  }
}
