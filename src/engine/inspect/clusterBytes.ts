import type { LayerView } from '../../protocol/place';
import { EngineError } from '../errors';
import type { OpenedChain } from '../chain/layer';
import { encryptedLayers, type Ciphers } from '../chain/unlock';
import { openReader } from '../chain/chainReader';
import { dataSource } from '../chain/layerStatus';
import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { SECTOR_SIZE } from '../formats/raw/size';
import { decompressCluster } from '../formats/qcow2/compression';
import { readPadded } from '../io/source';
import { compressedRange } from './tables/qcow2Entries';
import type { InspectedLayer, LayerTrace } from './trace';

/** Bytes of a cluster that are shown. */
export const SHOWN_BYTES = 4096;

export interface ClusterBytes {
  readonly bytes: Uint8Array | null;
  readonly note: string | null;
  /** They are encrypted, and there is no cipher for them. */
  readonly locked?: boolean;
}

export const LOCKED: ClusterBytes = { bytes: null, note: 'The data is encrypted.', locked: true };

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
export function guestBytes(
  chain: OpenedChain,
  ciphers: Ciphers,
  view: LayerView,
  guest: GuestRange,
  supplier: Supplier | null,
): ClusterBytes {
  const found = supplier?.trace.class ?? 'unallocated';
  const whole = supplier?.trace.entry?.kind !== 'subclusters';
  if (found === 'unknown') {
    return { bytes: null, note: 'The entry contradicts the format, or data of this format is not read.' };
  }
  const layer = supplier?.inspected.layer;
  const encrypted = layer !== undefined && encryptedLayers(chain).includes(layer);
  const decompressed = `Decompressed (${supplier?.inspected.qcow2?.metadata.compressionType ?? 'zlib'}).`;
  if (encrypted && !ciphers.has(layer)) {
    // QEMU does not encrypt compressed clusters (seen with qemu-io 7.2).
    const bytes = found === 'compressed' ? lenientBytes(supplier!, Math.min(SHOWN_BYTES, guest.length)) : null;
    if (bytes) {
      return { bytes, note: decompressed };
    }
    if (!(whole && found === 'zero')) {
      return LOCKED;
    }
  }
  const read = readAsGuest(chain, ciphers, view, guest);
  if (supplier === null || (whole && found === 'zero')) {
    // Layers below may have smaller clusters, and something in the rest of this one.
    return read.bytes?.some((byte) => byte !== 0)
      ? { bytes: read.bytes, note: 'Other parts of the cluster come from layers with smaller clusters.' }
      : { bytes: null, note: zeroNote(chain, supplier) };
  }
  if (read.bytes) {
    const note = whole
      ? encrypted
        ? 'Decrypted.'
        : null
      : 'Its subclusters come from several places; these are the bytes that the guest reads.';
    return {
      bytes: read.bytes,
      note: found === 'compressed' ? decompressed : note,
    };
  }
  // What a driver refuses to read as a whole may still have this cluster.
  const bytes = whole && !encrypted ? lenientBytes(supplier, Math.min(SHOWN_BYTES, guest.length)) : null;
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
function readAsGuest(chain: OpenedChain, ciphers: Ciphers, view: LayerView, { guestOffset, length }: GuestRange): ClusterBytes {
  try {
    const reader = openReader(chain, { view, ciphers });
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

/**
 * The first bytes of a cluster of an encrypted layer's file, in plain.
 * @param guestOffset of the cluster; null when it belongs to no guest cluster, or that is not known
 */
export function decryptedBytes(
  { layer }: InspectedLayer,
  cipher: ClusterCipher | undefined,
  hostOffset: number,
  guestOffset: number | null,
  length: number,
): ClusterBytes {
  const source = dataSource(layer);
  const offset = cipher?.addressedBy === 'hostOffset' ? hostOffset : guestOffset;
  if (!cipher || !source || offset === null) {
    return LOCKED;
  }
  const bytes = readPadded(source, hostOffset, Math.ceil(Math.min(SHOWN_BYTES, length) / SECTOR_SIZE) * SECTOR_SIZE);
  cipher.decrypt(bytes, offset);
  return { bytes, note: 'Decrypted; the file holds other bytes.' };
}

/** What kept bytes from being shown; errors that no input explains pass through. */
function noteOf(error: unknown): string {
  if (error instanceof EngineError) {
    return error.message;
  }
  throw error;
}
