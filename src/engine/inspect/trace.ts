import type { ClusterInspection, GuestClass, LayerTranslation } from '../../protocol/inspect';
import type { LayerView, Place } from '../../protocol/place';
import type { Layer } from '../chain/layer';
import { L1_OFFSET_MASK, LIMITS } from '../formats/qcow2/structures';
import type { QedMetadata } from '../formats/qed/metadata';
import { mapExtents } from '../formats/vmdk/extents';
import { VmdkGrainMap } from '../formats/vmdk/grainMap';
import type { ByteSource } from '../io/source';
import { safeNumber } from '../layout/codec';
import type { Qcow2Context } from './qcow2Context';
import type { EntryView } from './tables/entryView';
import { l1EntryView, l2EntryView, subclusterClassAt } from './tables/qcow2Entries';
import { l1Entries } from './tables/qcow2L1';
import { qedEntryView } from './tables/qedTables';
import { entryBytes, wordOf } from './tables/wordRead';
import { hexBytes } from './wording';

export type PathStep = ClusterInspection['path'][number];

/** One layer of the chain, with what is cached about it. */
export interface InspectedLayer {
  readonly layer: Layer;
  readonly qcow2: Qcow2Context | null;
}

/** Where one layer has a guest offset. */
export interface LayerTrace {
  readonly class: GuestClass;
  /** Host offset of the byte asked for; of the compressed bytes' begin for compressed clusters; null when there is none. */
  readonly hostOffset: number | null;
  /** Host bytes of the whole cluster, or of the compressed bytes. */
  readonly extent: { readonly hostOffset: number; readonly length: number } | null;
  /** The entry that decides; null where no table holds one. */
  readonly entry: EntryView | null;
  /** The entry's first word. */
  readonly word: bigint;
  /** Every entry on the way, outermost first. */
  readonly steps: readonly PathStep[];
  /** Guest bytes that one entry maps; 0 for formats without clusters. */
  readonly clusterSize: number;
  /** The file that host offsets count in, where it is neither the image's own nor its data file (extents of VMDK). */
  readonly file: ByteSource | null;
}

/** One table is looked at. */
const TRACE_CACHE = 64 * 1024;

const NOTHING = { hostOffset: null, extent: null, entry: null, word: 0n, steps: [], clusterSize: 0, file: null } as const;

/** Walks one layer's tables for one guest offset. */
export function traceLayer({ layer, qcow2 }: InspectedLayer, guestOffset: number, view: LayerView): LayerTrace {
  const { detail, source } = layer;
  if (qcow2) {
    return qcow2.metadata.tablesReadable ? traceQcow2(layer, qcow2, guestOffset, view) : { ...NOTHING, class: 'unknown' };
  }
  switch (detail.format) {
    case 'qed':
      return detail.metadata.tablesReadable ? traceQed(layer, detail.metadata, guestOffset) : { ...NOTHING, class: 'unknown' };
    case 'raw': {
      // The last sector may reach past the file's end; there it reads as zero.
      if (guestOffset >= source.size) {
        return { ...NOTHING, class: 'zero' };
      }
      const { data } = source.extentAt(guestOffset);
      return { ...NOTHING, class: data ? 'data' : 'zero', hostOffset: guestOffset };
    }
    case 'vmdk':
      return traceVmdk(layer, detail, guestOffset);
    case 'qcow2':
      return { ...NOTHING, class: 'unknown' };
  }
}

/**
 * Where each layer of the chain has a guest offset, active layer first. The first that does not pass the question on supplies the byte;
 * a backing file that is shorter than its overlay reads as zeroes past its end, whatever lies below it.
 */
export function translate(layers: readonly InspectedLayer[], guestOffset: number, view: LayerView): LayerTranslation[] {
  let decided = false;
  return layers.map((inspected, depth) => {
    const { layer } = inspected;
    const ended = guestOffset >= guestSizeOf(inspected, depth === 0 ? view : { kind: 'active' });
    const trace = ended ? null : traceLayer(inspected, guestOffset, depth === 0 ? view : { kind: 'active' });
    const found = trace?.class ?? 'unallocated';
    const supplies = !decided && found !== 'unallocated';
    decided ||= ended || found !== 'unallocated';
    return { depth: layer.depth, path: layer.path, class: found, hostOffset: trace?.hostOffset ?? null, supplies };
  });
}

/** Bytes of the disk as a layer has it in a view. */
export function guestSizeOf({ layer, qcow2 }: InspectedLayer, view: LayerView): number {
  return qcow2?.metadata.tablesReadable ? qcow2.view(view).guestSize : layer.virtualSize;
}

function traceQcow2(layer: Layer, context: Qcow2Context, guestOffset: number, view: LayerView): LayerTrace {
  const { metadata } = context;
  const { source, clusterSize, l2Entries, l2EntryBytes, extendedL2 } = metadata;
  const { l1, suffix } = context.view(view);
  const cluster = Math.floor(guestOffset / clusterSize);
  const l1Index = Math.floor(cluster / l2Entries);
  const l1Offset = l1.hostOffset + l1Index * 8;
  const unallocated = { ...NOTHING, clusterSize, class: 'unallocated' } as const;
  if (l1Index >= l1Entries(l1) || !Number.isSafeInteger(l1Offset)) {
    return { ...unallocated, class: Number.isSafeInteger(l1Offset) ? 'unallocated' : 'unknown' };
  }
  const l1Bytes = entryBytes(source, l1Offset, 8);
  const l1Word = wordOf(l1Bytes, 0, 'big');
  const l1View = l1EntryView(l1Word, context.l1Context(view));
  const l1Place: Place = { kind: 'tableRow', table: { kind: 'l1', view }, row: l1Index };
  const steps = [step(layer, `L1 entry ${l1Index}${suffix}`, l1Offset, l1Bytes, l1View, l1Place)];
  const tableOffset = safeNumber(l1Word & L1_OFFSET_MASK);
  const entryOffset = tableOffset + (cluster - l1Index * l2Entries) * l2EntryBytes;
  if (tableOffset === 0) {
    return { ...unallocated, steps };
  }
  if (!Number.isSafeInteger(entryOffset)) {
    return { ...unallocated, steps, class: 'unknown' };
  }
  const bytes = entryBytes(source, entryOffset, l2EntryBytes);
  const word = wordOf(bytes, 0, 'big');
  const entry = l2EntryView(word, extendedL2 ? wordOf(bytes, 8, 'big') : null, context.l2Context(view));
  const place: Place = { kind: 'tableRow', table: { kind: 'l2', view }, row: cluster };
  steps.push(step(layer, `L2 entry ${cluster - l1Index * l2Entries} of table ${l1Index}${suffix}`, entryOffset, bytes, entry, place));
  const { targetOffset, targetLength, subclusters } = entry;
  const compressed = entry.kind === 'compressed';
  const aligned = tableOffset % clusterSize === 0 && (compressed || (targetOffset ?? 0) % clusterSize === 0);
  const inCluster = guestOffset - cluster * clusterSize;
  const extent = targetOffset === null ? null : { hostOffset: targetOffset, length: targetLength ?? clusterSize };
  const subcluster = Math.floor(inCluster / (clusterSize / LIMITS.subclustersPerCluster));
  const found = subclusters && !compressed ? subclusterClassAt(subclusters, subcluster, extent !== null) : entry.guestClass;
  return {
    class: aligned ? found : 'unknown',
    hostOffset: extent === null || found === 'unallocated' ? null : extent.hostOffset + (compressed ? 0 : inCluster),
    extent,
    entry,
    word,
    steps,
    clusterSize,
    file: null,
  };
}

function traceQed(layer: Layer, metadata: QedMetadata, guestOffset: number): LayerTrace {
  const { source, clusterSize, tableEntries, l1TableOffset } = metadata;
  const cluster = Math.floor(guestOffset / clusterSize);
  const l1Index = Math.floor(cluster / tableEntries);
  const l1Offset = l1TableOffset + l1Index * 8;
  const view: LayerView = { kind: 'active' };
  const unallocated = { ...NOTHING, clusterSize, class: 'unallocated' } as const;
  if (l1Index >= tableEntries || !Number.isSafeInteger(l1Offset)) {
    return { ...unallocated, class: Number.isSafeInteger(l1Offset) ? 'unallocated' : 'unknown' };
  }
  const l1Bytes = entryBytes(source, l1Offset, 8);
  const l1View = qedEntryView(wordOf(l1Bytes, 0, 'little'), 'l1', metadata);
  const l1Place: Place = { kind: 'tableRow', table: { kind: 'l1', view }, row: l1Index };
  const steps = [step(layer, `L1 entry ${l1Index}`, l1Offset, l1Bytes, l1View, l1Place)];
  const inTable = cluster - l1Index * tableEntries;
  const entryOffset = (l1View.targetOffset ?? NaN) + inTable * 8;
  if (l1View.guestClass === 'unallocated') {
    return { ...unallocated, steps };
  }
  if (!Number.isSafeInteger(entryOffset) || l1View.problems.length > 0) {
    return { ...unallocated, steps, class: 'unknown' };
  }
  const bytes = entryBytes(source, entryOffset, 8);
  const word = wordOf(bytes, 0, 'little');
  const entry = qedEntryView(word, 'l2', metadata);
  const place: Place = { kind: 'tableRow', table: { kind: 'l2', view }, row: cluster };
  steps.push(step(layer, `L2 entry ${inTable} of table ${l1Index}`, entryOffset, bytes, entry, place));
  const { targetOffset, targetLength } = entry;
  return {
    class: entry.guestClass,
    hostOffset: targetOffset === null ? null : targetOffset + guestOffset - cluster * clusterSize,
    extent: targetOffset === null ? null : { hostOffset: targetOffset, length: targetLength ?? clusterSize },
    entry,
    word,
    steps,
    clusterSize,
    file: null,
  };
}

/** Without the entries on the way: tables of VMDK are not shown. */
function traceVmdk(layer: Layer, { metadata, extents }: Extract<Layer['detail'], { format: 'vmdk' }>, guestOffset: number): LayerTrace {
  const map = new VmdkGrainMap(mapExtents(metadata, extents), layer.virtualSize, TRACE_CACHE);
  const { class: kind, hostOffset, compressed, source } = map.blockStatusWithHoles(guestOffset, 1);
  const found = map.extentAt(guestOffset);
  const file = source && source !== layer.source ? source : null;
  if (found?.kind !== 'sparse') {
    return { ...NOTHING, class: kind, hostOffset, file };
  }
  const { grainSize } = found.sparse;
  const within = (guestOffset - found.start) % grainSize;
  const grain = hostOffset === null ? null : { hostOffset: hostOffset - within, length: grainSize };
  const extent = compressed ? { hostOffset: compressed.hostOffset, length: compressed.length } : grain;
  return { ...NOTHING, class: kind, extent, file, hostOffset: compressed?.hostOffset ?? hostOffset, clusterSize: grainSize };
}

function step(layer: Layer, title: string, hostOffset: number, bytes: Uint8Array, view: EntryView, place: Place): PathStep {
  const problems = view.problems.length === 0 ? '' : ` - ${view.problems.join(' ')}`;
  return { title, hostOffset, rawHex: hexBytes(bytes), decoded: `${view.decoded}${problems}`, place, file: layer.path };
}
