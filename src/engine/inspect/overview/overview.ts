import type { Overview, StructureView } from '../../../protocol/inspect';
import { EngineError } from '../../errors';
import { grainSizeOf } from '../../formats/vmdk/extents';
import type { Layer, OpenedChain } from '../../chain/layer';
import type { Ciphers } from '../../chain/unlock';
import { commonFacts, type Fact } from './facts';
import { notices } from './notices';
import { qcow2Facts, qcow2Structures } from './qcow2';
import { qedFacts, qedStructures } from './qed';
import { vmdkFacts, vmdkStructures } from './vmdk';

/** The active layer of a chain. */
export function activeLayer(chain: OpenedChain): Layer {
  const layer = chain.layers[0];
  if (!layer) {
    throw new EngineError('request.invalid', 'The chain has no open image.');
  }
  return layer;
}

/** The first page of an image: everything that its header says. Reads the first cluster and no table. */
export function overviewOf(chain: OpenedChain, ciphers: Ciphers = new Map()): Overview {
  const layer = activeLayer(chain);
  const { detail, source } = layer;
  const mapped = (detail.format === 'qcow2' || detail.format === 'qed') && detail.metadata.tablesReadable;
  return {
    path: layer.path,
    chain: { links: chain.links },
    notices: notices(chain, ciphers),
    structures: structuresOf(layer),
    facts: factsOf(layer),
    has: {
      tables: mapped,
      guestMap: mapped || detail.format === 'raw' || (detail.format === 'vmdk' && layer.virtualSize > 0),
      hostMap: mapped,
      check: detail.format === 'qcow2' || detail.format === 'qed',
      snapshots: detail.format === 'qcow2',
    },
    fileSize: source.size,
    virtualSize: layer.virtualSize,
    clusterSize: clusterSizeOf(layer),
  };
}

/** Bytes; null for formats without clusters, and where the header's value is unusable. */
export function clusterSizeOf({ detail }: Layer): number | null {
  switch (detail.format) {
    case 'qcow2':
    case 'qed':
      return detail.metadata.tablesReadable ? detail.metadata.clusterSize : null;
    case 'vmdk':
      return grainSizeOf(detail.metadata, detail.extents);
    case 'raw':
      return null;
  }
}

/** Header, extensions and what else is declared, in file order. */
export function structuresOf({ detail }: Layer): StructureView[] {
  switch (detail.format) {
    case 'qcow2':
      return qcow2Structures(detail.metadata);
    case 'qed':
      return qedStructures(detail.metadata);
    case 'vmdk':
      return vmdkStructures(detail.metadata);
    case 'raw':
      return [];
  }
}

export function factsOf(layer: Layer): Fact[] {
  const { detail } = layer;
  switch (detail.format) {
    case 'qcow2':
      return qcow2Facts(layer, detail.metadata);
    case 'qed':
      return qedFacts(layer, detail.metadata);
    case 'vmdk':
      return vmdkFacts(layer, detail);
    case 'raw':
      return commonFacts(layer, {}, null).facts;
  }
}
