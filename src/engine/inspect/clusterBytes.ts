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

/** Guest bytes, one cluster of the active layer. */
export interface GuestRange {
  readonly guestOffset: number;
  readonly length: number;
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
export function guestBytes(chain: OpenedChain, view: LayerView, guest: GuestRange, supplier: Supplier | null): ClusterBytes {
  const found = supplier?.trace.class ?? 'unallocated';
  const whole = supplier?.trace.entry?.kind !== 'subclusters';
  if (found === 'unknown') {
    return { bytes: null, note: 'The entry contradicts the format, or data of this format is not read.' };
  }
  const encrypted = supplier?.inspected.qcow2 ? supplier.inspected.qcow2.metadata.cryptMethod !== 0 : false;
  // QEMU does not encrypt compressed clusters (seen with qemu-io 7.2).
  if (encrypted && found !== 'compressed' && !(whole && found === 'zero')) {
    return { bytes: null, note: 'The data is encrypted.' };
  }
  const read = readAsGuest(chain, view, guest);
  if (supplier === null || (whole && found === 'zero')) {
    // Layers below may have smaller clusters, and something in the rest of this one.
    return read.bytes?.some((byte) => byte !== 0)
      ? { bytes: read.bytes, note: 'Other parts of the cluster come from layers with smaller clusters.' }
      : { bytes: null, note: zeroNote(chain, supplier) };
  }
  if (read.bytes) {
    const note = whole ? null : 'Its subclusters come from several places; these are the bytes that the guest reads.';
    return {
      bytes: read.bytes,
      note: found === 'compressed' ? `Decompressed (${supplier.inspected.qcow2?.metadata.compressionType ?? 'zlib'}).` : note,
    };
  }
  // What a driver refuses to read as a whole may still have this cluster.
  const bytes = whole ? lenientBytes(supplier, Math.min(SHOWN_BYTES, guest.length)) : null;
  return { bytes, note: bytes ? `Read past what drivers refuse: ${read.note}` : read.note };
}

function zeroNote({ complete }: OpenedChain, supplier: Supplier | null): string {
  if (supplier) {
    return 'It reads as zeroes.';
  }
  return complete
    ? 'No layer of the chain holds it: it reads as zeroes.'
    : 'No open layer holds it; the chain goes on in a file that is not open.';
}

/** Reads through the whole chain as drivers do; null with the reason where these refuse. */
function readAsGuest(chain: OpenedChain, view: LayerView, { guestOffset, length }: GuestRange): ClusterBytes {
  try {
    const reader = openReader(chain, { view });
    const bytes = new Uint8Array(Math.max(0, Math.min(length, SHOWN_BYTES, reader.size - guestOffset)));
    reader.read(guestOffset, bytes);
    return { bytes, note: null };
  } catch (error) {
    return { bytes: null, note: noteOf(error) };
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
    const whole = decompressCluster(compressionType, readPadded(source, range.offset, range.length), clusterSize);
    // A copy: the decoder's buffer is a cluster long.
    return whole ? Uint8Array.from(whole.subarray(0, length)) : null;
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
