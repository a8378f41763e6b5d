import type { ClusterInspection } from '../../protocol/inspect';
import type { LayerView, Place } from '../../protocol/place';
import type { OpenedChain } from '../chain/layer';
import { FileSource } from '../io/file';
import { readAvailable } from '../io/source';
import type { PaceOptions } from '../pace';
import type { Ciphers } from '../chain/unlock';
import { decryptedBytes, guestBytes, SHOWN_BYTES, type ClusterBytes } from './clusterBytes';
import { guestCommands, hostCommands } from './commands';
import { HostNames, type ClusterReferences } from './host/hostNames';
import { requireInside } from './inside';
import { clusterSizeOf } from './overview/overview';
import { lookUpRefcount } from './tables/refcountLookup';
import { describeEntry } from './tables/entryView';
import { REFCOUNT_TABLE_ENTRY } from '../formats/qcow2/structures';
import { guestSizeOf, traceLayer, translate, type InspectedLayer, type LayerTrace, type PathStep } from './trace';
import { hex, hexBytes, visible } from './wording';

const ACTIVE: LayerView = { kind: 'active' };
/** How formats without clusters are cut for looking at. */
const PLAIN_CLUSTER = 64 * 1024;
/** References that are listed; the count is of all. */
const LISTED_REFERENCES = 64;

export interface ClusterRequest {
  readonly space: 'guest' | 'host';
  readonly offset: number;
  readonly view: LayerView;
}

/** What inspecting needs of an open image. */
export interface InspectedChain {
  readonly chain: OpenedChain;
  readonly layers: readonly InspectedLayer[];
  readonly ciphers: Ciphers;
  /** Names of the active layer's file. */
  readonly names: HostNames;
}

/** Everything about the cluster at a guest or host offset. @throws EngineError `address.invalid`, `request.invalid`, `cancelled` */
export async function inspectCluster(
  inspected: InspectedChain,
  { space, offset, view }: ClusterRequest,
  options: PaceOptions,
): Promise<ClusterInspection> {
  const active = inspected.layers[0]!;
  const size = space === 'guest' ? guestSizeOf(active, view) : active.layer.source.size;
  requireInside({ space, offset }, size);
  return space === 'guest' ? guestCluster(inspected, offset, view, options) : hostCluster(inspected, offset, options);
}

async function guestCluster(inspected: InspectedChain, offset: number, view: LayerView, options: PaceOptions): Promise<ClusterInspection> {
  const { chain, layers, names, ciphers } = inspected;
  const active = layers[0]!;
  const clusterSize = clusterSizeOf(active.layer) ?? PLAIN_CLUSTER;
  const guestOffset = Math.floor(offset / clusterSize) * clusterSize;
  const guest = { guestOffset, length: Math.min(clusterSize, guestSizeOf(active, view) - guestOffset) };
  const translations = translate(layers, offset, view);
  const supplierDepth = translations.findIndex(({ supplies }) => supplies);
  // Where nothing supplies it, the entries that say so are the whole way down.
  const steps = layers
    .slice(0, supplierDepth < 0 ? layers.length : supplierDepth + 1)
    .flatMap((layer, depth) => traceLayer(layer, offset, depth === 0 ? view : ACTIVE).steps);
  const supplying = layers[supplierDepth];
  const ownView = supplierDepth === 0 ? view : ACTIVE;
  const supplier = supplying
    ? { inspected: supplying, trace: traceLayer(supplying, offset, ownView), first: traceLayer(supplying, guestOffset, ownView) }
    : null;
  const host = supplier ? hostOf(supplier.inspected, supplier.trace) : null;
  const counted =
    supplier && host ? await countsOf(supplier.inspected, host.hostOffset, supplierDepth === 0 ? names : null, options) : NO_COUNTS;
  const shown = guestBytes(chain, ciphers, view, guest, supplier);
  const suffix = active.qcow2?.metadata.tablesReadable ? active.qcow2.view(view).suffix : '';
  return {
    guest,
    host,
    title: `Guest cluster ${guestOffset / clusterSize} (${hex(guestOffset)})${suffix}`,
    class: supplier?.trace.class ?? (chain.complete ? 'unallocated' : 'unknown'),
    layers: translations,
    path: [...steps, ...counted.steps],
    refcount: counted.refcount,
    references: counted.references,
    subclusters: supplier?.trace.entry?.subclusters ?? null,
    bytes: shown.bytes,
    bytesNote: shown.note,
    locked: shown.locked === true,
    commands: [
      ...guestCommands(active.layer, view, guestOffset, guest.length),
      ...(supplier && host ? hostCommands(supplier.inspected.layer, host.path, host.hostOffset, host.length) : []),
    ],
  };
}

function hostOf({ layer, qcow2 }: InspectedLayer, { extent, hostOffset, clusterSize, file }: LayerTrace): ClusterInspection['host'] {
  const path = (qcow2?.metadata.hasDataFile ? qcow2.dataPath : null) ?? (file instanceof FileSource ? file.path : layer.path);
  if (extent) {
    return { ...extent, path };
  }
  return clusterSize === 0 && hostOffset !== null
    ? { path, hostOffset: Math.floor(hostOffset / PLAIN_CLUSTER) * PLAIN_CLUSTER, length: PLAIN_CLUSTER }
    : null;
}

async function hostCluster(inspected: InspectedChain, offset: number, options: PaceOptions): Promise<ClusterInspection> {
  const { layers, names, ciphers } = inspected;
  const active = layers[0]!;
  const { layer } = active;
  const clusterSize = names.clusterSize ?? PLAIN_CLUSTER;
  const hostOffset = Math.floor(offset / clusterSize) * clusterSize;
  const length = Math.min(clusterSize, layer.source.size - hostOffset);
  const [region] = await names.regions(offset, offset + 1, options);
  const counted = await countsOf(active, hostOffset, names, options);
  const guest = await guestOf(inspected, offset, hostOffset, options);
  const encrypted = active.qcow2 !== null && active.qcow2.metadata.cryptMethod !== 0 && region?.class === 'data';
  const shown: ClusterBytes = encrypted
    ? decryptedBytes(active, ciphers.get(layer), hostOffset, guest?.guestOffset ?? null, length)
    : { bytes: readAvailable(layer.source, hostOffset, Math.min(SHOWN_BYTES, length)), note: null };
  return {
    guest: guest && { guestOffset: guest.guestOffset, length: guest.length },
    host: { hostOffset, length, path: layer.path },
    title: `${names.clusterSize === null ? 'Host bytes' : `Host cluster ${hostOffset / clusterSize}`} (${hex(hostOffset)}): ${region?.label ?? 'past the end of the file'}`,
    class: region?.class ?? 'free',
    layers: guest ? translate(layers, guest.guestOffset, ACTIVE) : [],
    path: [...(guest?.steps ?? []), ...counted.steps],
    refcount: counted.refcount,
    references: counted.references,
    subclusters: guest?.trace?.entry?.subclusters ?? null,
    bytes: shown.bytes,
    bytesNote: shown.note,
    locked: shown.locked === true,
    commands: [
      ...(guest ? guestCommands(layer, ACTIVE, guest.guestOffset, guest.length) : []),
      ...hostCommands(layer, layer.path, hostOffset, length),
    ],
  };
}

/** The guest cluster of the active layer that a host byte belongs to, and the way to it; null when it belongs to none. */
async function guestOf(
  { layers, names }: InspectedChain,
  offset: number,
  hostOffset: number,
  options: PaceOptions,
): Promise<{ guestOffset: number; length: number; steps: readonly PathStep[]; trace: LayerTrace | null } | null> {
  const active = layers[0]!;
  const { clusterSize } = names;
  const size = guestSizeOf(active, ACTIVE);
  if (clusterSize === null) {
    const inDisk = active.layer.detail.format === 'raw' && hostOffset < size;
    return inDisk ? { guestOffset: hostOffset, length: Math.min(PLAIN_CLUSTER, size - hostOffset), steps: [], trace: null } : null;
  }
  const { data } = await names.references(hostOffset, options);
  const reference =
    data.find(({ view, start, end }) => view.kind === 'active' && start <= offset && offset < end) ??
    data.find(({ view }) => view.kind === 'active');
  const guestOffset = (reference?.row ?? Infinity) * clusterSize;
  if (guestOffset >= size) {
    return null;
  }
  const trace = traceLayer(active, guestOffset, ACTIVE);
  return { guestOffset, length: Math.min(clusterSize, size - guestOffset), steps: trace.steps, trace };
}

interface Counts {
  readonly steps: readonly PathStep[];
  readonly refcount: number | null;
  readonly references: ClusterInspection['references'];
}

const NO_COUNTS: Counts = { steps: [], refcount: null, references: null };

/** Refcount and references of a host cluster, with the entries that hold the count. */
async function countsOf(inspected: InspectedLayer, hostOffset: number, names: HostNames | null, options: PaceOptions): Promise<Counts> {
  const { layer, qcow2 } = inspected;
  const own = names ?? new HostNames(layer, qcow2);
  if (own.clusterSize === null || qcow2?.metadata.hasDataFile) {
    return NO_COUNTS;
  }
  const references = referencesOf(await own.references(hostOffset, options), own.clusterSize, names === null ? layer.path : null);
  if (!qcow2) {
    return { ...NO_COUNTS, references };
  }
  const cluster = Math.floor(hostOffset / own.clusterSize);
  const found = lookUpRefcount(qcow2.metadata, cluster);
  const steps: PathStep[] = [];
  if (found.tableEntryOffset !== null) {
    steps.push({
      title: `Refcount table entry ${found.tableIndex}`,
      hostOffset: found.tableEntryOffset,
      rawHex: hexBytes(found.tableBytes),
      decoded: describeEntry(found.tableWord, REFCOUNT_TABLE_ENTRY),
      place: { kind: 'tableRow', table: { kind: 'refcountTable' }, row: found.tableIndex },
      file: layer.path,
    });
  }
  if (found.entryOffset !== null) {
    steps.push({
      title: `Refcount of cluster ${cluster}`,
      hostOffset: found.entryOffset,
      rawHex: hexBytes(found.entryBytes),
      decoded: `refcount ${found.count}`,
      place: { kind: 'tableRow', table: { kind: 'refcounts' }, row: cluster },
      file: layer.path,
    });
  }
  return { steps, references, refcount: Number(found.count) };
}

/** @param otherFile set when the references stand in another file than the one that is open: then links lead to that file */
function referencesOf({ count, claims, data }: ClusterReferences, clusterSize: number, otherFile: string | null): Counts['references'] {
  const labelled = [
    ...claims.map(({ label, place }) => ({ label, place: place ?? ({ kind: 'host', hostOffset: 0 } as const) })),
    ...data.map(({ row, view, compressed }) => ({
      label: `${compressed ? 'compressed ' : ''}guest cluster ${row} (${hex(row * clusterSize)})${view.kind === 'active' ? '' : ` of snapshot ${view.index}`}`,
      place: { kind: 'tableRow', table: { kind: 'l2', view }, row } as const,
    })),
  ].slice(0, LISTED_REFERENCES);
  const places = labelled.map(({ label, place }): { label: string; place: Place } => ({
    label: visible(label),
    place: otherFile === null ? place : { kind: 'file', path: otherFile },
  }));
  return { count, places };
}
