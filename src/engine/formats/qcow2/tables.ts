import { readPadded } from '../../io/source';
import { WordTable } from '../../layout/wordTable';
import type { Qcow2Metadata } from './metadata';
import { LIMITS } from './structures';

/** Which L1 table: the active one, or that of an internal snapshot. */
export interface L1Location {
  readonly hostOffset: number;
  /** Number of entries, as the header or the snapshot table says. */
  readonly entries: number;
}

export function activeL1(metadata: Qcow2Metadata): L1Location {
  return { hostOffset: metadata.l1TableOffset, entries: metadata.l1Size };
}

/**
 * Loads an L1 table; what lies past the end of the file reads as zero. At most the format's limit (32 MiB) is read, and nothing that the
 * file cannot hold.
 */
export function loadL1(metadata: Qcow2Metadata, location: L1Location): WordTable {
  return loadTable(metadata, location.hostOffset, location.entries * 8, LIMITS.maxL1Bytes);
}

/** Loads the refcount table, at most the format's limit (8 MiB). */
export function loadRefcountTable(metadata: Qcow2Metadata): WordTable {
  const { refcountTableOffset, refcountTableClusters, clusterSize } = metadata;
  return loadTable(metadata, refcountTableOffset, refcountTableClusters * clusterSize, LIMITS.maxRefcountTableBytes);
}

/** Loads a table of words, at most `limit` bytes of it. */
export function loadTable(metadata: Qcow2Metadata, hostOffset: number, wanted: number, limit: number): WordTable {
  const { source } = metadata;
  const present = hostOffset < source.size ? Math.min(wanted, limit, source.size - hostOffset) : 0;
  // A table that the end of the file cuts keeps its declared length (zero padded) as long as that is sane, so that indices stay valid.
  const length = Math.min(wanted, limit);
  return new WordTable(present > 0 ? readPadded(source, hostOffset, length) : new Uint8Array(0), hostOffset, 'big');
}
