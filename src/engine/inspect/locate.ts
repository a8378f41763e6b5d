import type { Location, Region } from '../../protocol/inspect';
import type { LayerView } from '../../protocol/place';
import type { PaceOptions } from '../pace';
import { parseAddress, type Address } from './address';
import type { HostNames } from './host/hostNames';
import { requireInside } from './inside';
import { clusterSizeOf } from './overview/overview';
import { guestSizeOf, traceLayer, translate, type InspectedLayer } from './trace';
import { hex } from './wording';

const ACTIVE: LayerView = { kind: 'active' };
/** Guest offsets listed for a shared host byte. */
const MAX_GUEST_OFFSETS = 16;

/**
 * Finds an address and translates it down the whole chain, or from the file back to the guest's disk.
 * @throws EngineError `address.invalid`, `cancelled`
 */
export async function locate(
  layers: readonly InspectedLayer[],
  names: HostNames,
  text: string,
  space: 'guest' | 'host',
  options: PaceOptions,
): Promise<Location> {
  const active = layers[0]!;
  const address = parseAddress(text, { space, clusterSize: clusterSizeOf(active.layer) });
  requireInside(address, address.space === 'guest' ? guestSizeOf(active, ACTIVE) : active.layer.source.size);
  return address.space === 'guest' ? locateGuest(layers, address) : locateHost(layers, names, address, options);
}

function locateGuest(layers: readonly InspectedLayer[], { offset, understood }: Address): Location {
  return {
    understood,
    offset,
    space: 'guest',
    guestOffsets: [offset],
    layers: translate(layers, offset, ACTIVE),
    region: ownRegion(layers[0]!, offset),
  };
}

/** What of the active layer's file a guest offset is; what lies in an external data file, or in an extent, is no region of it. */
function ownRegion(active: InspectedLayer, guestOffset: number): Region | null {
  const { class: found, extent, clusterSize, file } = traceLayer(active, guestOffset, ACTIVE);
  if ((found !== 'data' && found !== 'compressed') || !extent || file || active.qcow2?.metadata.hasDataFile) {
    return null;
  }
  const start = Math.floor(guestOffset / clusterSize) * clusterSize;
  return {
    ...extent,
    class: found,
    label: `${found === 'compressed' ? 'compressed data' : 'data'} of guest offset ${hex(start)}`,
    place: { kind: 'guest', guestOffset: start, length: clusterSize },
  };
}

async function locateHost(
  layers: readonly InspectedLayer[],
  names: HostNames,
  { offset, understood }: Address,
  options: PaceOptions,
): Promise<Location> {
  const { guestOffsets, view } = await guestOffsetsOf(layers[0]!, names, offset, options);
  const [region = null] = await names.regions(offset, offset + 1, options);
  const first = guestOffsets[0];
  return {
    understood,
    offset,
    guestOffsets,
    region,
    space: 'host',
    layers: first === undefined ? [] : translate(layers, first, view),
  };
}

/**
 * Guest offsets whose data a host byte is, and the view that has the first; of compressed data the cluster's first byte. Offsets of the
 * active layer come first; where it has none, a snapshot's do.
 */
async function guestOffsetsOf(
  { layer }: InspectedLayer,
  names: HostNames,
  hostOffset: number,
  options: PaceOptions,
): Promise<{ guestOffsets: number[]; view: LayerView }> {
  const { clusterSize } = names;
  if (layer.detail.format === 'raw') {
    return { guestOffsets: [hostOffset], view: ACTIVE };
  }
  if (clusterSize === null) {
    return { guestOffsets: [], view: ACTIVE };
  }
  const { data } = await names.references(hostOffset, options);
  const here = data.filter(({ start, end }) => start <= hostOffset && hostOffset < end);
  const ordered = [...here.filter(({ view }) => view.kind === 'active'), ...here.filter(({ view }) => view.kind !== 'active')];
  const offsets = ordered.map(({ row, start, compressed }) => row * clusterSize + (compressed ? 0 : hostOffset - start));
  const guestOffsets = [...new Set(offsets)].filter((offset) => Number.isSafeInteger(offset)).slice(0, MAX_GUEST_OFFSETS);
  return { guestOffsets, view: ordered[0]?.view ?? ACTIVE };
}
