import type { Location } from '../../protocol/inspect';
import type { LayerView } from '../../protocol/place';
import { EngineError } from '../errors';
import type { PaceOptions } from '../pace';
import { describeOffset, parseAddress, type Address } from './address';
import type { HostNames } from './host/hostNames';
import { clusterSizeOf } from './overview/overview';
import { guestSizeOf, translate, type InspectedLayer } from './trace';
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
  requireInside(active, address);
  return address.space === 'guest' ? locateGuest(layers, names, address, options) : locateHost(layers, names, address, options);
}

async function locateGuest(
  layers: readonly InspectedLayer[],
  names: HostNames,
  { offset, understood }: Address,
  options: PaceOptions,
): Promise<Location> {
  const translations = translate(layers, offset, ACTIVE);
  const own = translations[0];
  const { layer, qcow2 } = layers[0]!;
  // What lies in an external data file is no region of this file.
  const hostOffset = qcow2?.metadata.hasDataFile ? null : (own?.hostOffset ?? null);
  const inFile = hostOffset !== null && hostOffset < layer.source.size ? hostOffset : null;
  const region = inFile === null ? null : ((await names.regions(inFile, inFile + 1, options, 0))[0] ?? null);
  return { understood, offset, space: 'guest', guestOffsets: [offset], layers: translations, region };
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

/** @throws EngineError `address.invalid` for an offset outside the disk or the file */
export function requireInside(active: InspectedLayer, { space, offset }: Pick<Address, 'space' | 'offset'>): void {
  const size = space === 'guest' ? guestSizeOf(active, ACTIVE) : active.layer.source.size;
  if (offset >= size) {
    const [what, whole] = space === 'guest' ? ['Guest', 'disk'] : ['Host', 'file'];
    throw new EngineError(
      'address.invalid',
      `${what} offset ${describeOffset(offset)} is past the end of the ${whole}, which has ${size} bytes (${hex(size)}).`,
    );
  }
}
