import type { LayerView } from '../../protocol/place';
import { EngineError } from '../errors';
import type { OpenedChain } from '../block/layer';
import { openReader } from '../block/node';
import { dataSource } from '../block/status';
import { decompressCluster } from '../formats/qcow2/compression';
import { readPadded } from '../io/source';
import { compressedRange } from './tables/qcow2Entries';
import type { InspectedLayer, LayerTrace } from './trace';

/** Bytes of a cluster that are shown. */
export const SHOWN_BYTES = 4096;

export interface ClusterBytes {
  readonly bytes: Uint8Array | null;
  readonly note: string | null;
}

/** The layer that supplies a cluster. */
export interface Supplier {
  readonly inspected: InspectedLayer;
  /** At the guest offset that was asked for. */
  readonly trace: LayerTrace;
  /** At the cluster's first byte. */
  readonly first: LayerTrace;
}

/** The first bytes of a guest cluster as the guest reads them, or why they cannot be shown. Never throws on content. */
export function guestBytes(
  chain: OpenedChain,
  view: LayerView,
  guest: { readonly guestOffset: number; readonly length: number },
  supplier: Supplier | null,
): ClusterBytes {
  if (!supplier) {
    const note = chain.complete
      ? 'No layer of the chain holds it: it reads as zeroes.'
      : 'No open layer holds it; the chain goes on in a file that is not open.';
    return { bytes: null, note };
  }
  const { inspected, trace } = supplier;
  const whole = trace.entry?.kind !== 'subclusters';
  if (whole && trace.class === 'zero') {
    return { bytes: null, note: 'It reads as zeroes.' };
  }
  if (inspected.qcow2 && inspected.qcow2.metadata.cryptMethod !== 0) {
    return { bytes: null, note: 'The data is encrypted.' };
  }
  if (trace.class === 'unknown') {
    return { bytes: null, note: 'The entry contradicts the format, or data of this format is not read.' };
  }
  const length = Math.min(SHOWN_BYTES, guest.length);
  try {
    const reader = openReader(chain, { view });
    const bytes = new Uint8Array(Math.max(0, Math.min(length, reader.size - guest.guestOffset)));
    reader.read(guest.guestOffset, bytes);
    const note = whole ? null : 'Its subclusters come from several places; these are the bytes that the guest reads.';
    return { bytes, note: trace.class === 'compressed' ? `Decompressed (${inspected.qcow2?.metadata.compressionType ?? ''}).` : note };
  } catch (error) {
    // What a driver refuses to read as a whole may still have this cluster.
    const note = noteOf(error);
    const bytes = whole ? lenientBytes(supplier, length) : null;
    return { bytes, note: bytes ? `Read past what drivers refuse: ${note}` : note };
  }
}

/** The cluster's bytes from the one layer that holds it. */
function lenientBytes({ inspected, first }: Supplier, length: number): Uint8Array | null {
  const { layer, qcow2 } = inspected;
  const source = dataSource(layer);
  if (!source || first.hostOffset === null) {
    return null;
  }
  if (first.class === 'data') {
    return readPadded(source, first.hostOffset, first.clusterSize === 0 ? length : Math.min(length, first.clusterSize));
  }
  if (first.class !== 'compressed' || !qcow2) {
    return null;
  }
  const { clusterBits, clusterSize, compressionType } = qcow2.metadata;
  const range = compressedRange(first.word, clusterBits);
  try {
    return decompressCluster(compressionType, readPadded(source, range.offset, range.length), clusterSize)?.slice(0, length) ?? null;
  } catch (error) {
    noteOf(error);
    return null;
  }
}

/** What kept bytes from being shown; errors that no input explains pass through. */
function noteOf(error: unknown): string {
  if (error instanceof EngineError) {
    return error.message;
  }
  throw error;
}
