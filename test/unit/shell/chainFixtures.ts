import type { Chain, ChainLink, ImageSummary, LinkState } from '../../../src/protocol/chain';
import type { KnownImage } from '../../../src/shell/chains/forest';

export function image(over: Partial<ImageSummary> = {}): ImageSummary {
  return {
    format: 'qcow2',
    virtualSize: 10 * 1024 ** 3,
    fileSize: 196_616,
    allocatedBytes: 200_704,
    clusterSize: 65_536,
    dirty: false,
    corrupt: false,
    encrypted: false,
    readOnly: false,
    usage: { known: true, inUse: false, writing: false, holders: [] },
    backingName: null,
    backingFormat: null,
    dataFileName: null,
    cacheQuota: null,
    snapshots: [],
    bitmaps: [],
    problems: [],
    ...over,
  };
}

export function active(path: string, over: Partial<ImageSummary> = {}): ChainLink {
  return { recordedName: path, path, role: 'active', state: { kind: 'open' }, image: image(over) };
}

export function backing(path: string, over: Partial<ImageSummary> = {}): ChainLink {
  return { ...active(path, over), role: 'backing' };
}

export function dataFile(path: string): ChainLink {
  return { ...active(path, { format: 'raw', clusterSize: null }), role: 'data-file' };
}

export function notOpen(path: string, state: LinkState): ChainLink {
  return { recordedName: path, path, role: 'backing', state, image: null };
}

/** What is known of an image whose chain consists of these links, its own first. */
export function known(...links: ChainLink[]): KnownImage {
  const chain: Chain = { links };
  return { path: links[0]?.path ?? '', added: false, description: { kind: 'chain', chain } };
}
