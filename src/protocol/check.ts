import type { Place } from './place';

/** What a finding means for the image; the first two are what qemu-img check counts. */
export type FindingCategory = 'corruption' | 'leak' | 'checkError' | 'extra';

/**
 * Stable names of what can be found. Those from `doublyUsedData` on are beyond qemu-img check and never enter the comparable counts.
 */
export type FindingKind =
  // comparable with qemu-img check
  | 'leak'
  | 'refcountTooLow'
  | 'copiedFlag'
  | 'reservedBits'
  | 'misalignedL2'
  | 'misalignedData'
  | 'misalignedRefcountBlock'
  | 'referencePastEnd'
  | 'refcountOverflow'
  | 'refcountBlockPastEnd'
  | 'refcountBlockShared'
  | 'compressedCopied'
  | 'compressedWithDataFile'
  | 'compressedSubclusters'
  | 'subclusterConflict'
  | 'snapshotTable'
  | 'bitmapDirectory'
  | 'bitmapTable'
  | 'tableOverlap'
  | 'unreadable'
  | 'qedTableOffset'
  | 'qedDataOffset'
  | 'qedDoublyUsed'
  // beyond it
  | 'doublyUsedData'
  | 'dataIntoMetadata'
  | 'undecodableCompressed'
  | 'truncatedDataFile'
  | 'snapshotCopiedFlag'
  | 'mappedPastSize'
  | 'chainLoop'
  | 'lostTable'
  | 'lostData';

export interface Finding {
  readonly kind: FindingKind;
  readonly category: FindingCategory;
  /** One sentence: what, where, in the specification's words. Offsets are hexadecimal. */
  readonly message: string;
  /** What it means for the guest, one sentence. */
  readonly consequence: string;
  /** The entry or structure to blame, for a link; null when the finding is about the file as a whole. */
  readonly place: Place | null;
  /** The host cluster it is about. */
  readonly cluster: Place | null;
  /** Guest range that is affected, where known. */
  readonly guest: { readonly guestOffset: number; readonly length: number } | null;
}

/** Counts as qemu-img check has them (its JSON fields in camel case). */
export interface CheckCounts {
  readonly checkErrors: number;
  readonly corruptions: number;
  readonly leaks: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** Byte offset of the end of the last cluster in use; null where the format has none. */
  readonly imageEndOffset: number;
  readonly totalClusters: number;
  readonly allocatedClusters: number;
  readonly fragmentedClusters: number;
  readonly compressedClusters: number;
}

export interface CheckReport {
  readonly path: string;
  readonly format: 'qcow2' | 'qed';
  readonly counts: CheckCounts;
  /** How many findings there are of each kind, all of them, also those beyond `findings`. */
  readonly kinds: readonly { readonly kind: FindingKind; readonly category: FindingCategory; readonly count: number }[];
  /** At most `CheckOptions.maxFindings` of each kind, in the order they were found. */
  readonly findings: readonly Finding[];
  /** Exit code of qemu-img check for these counts: 0, 1, 2 or 3. */
  readonly exitCode: number;
  /** Exit code when what goes beyond qemu-img counts too (`--strict`). */
  readonly strictExitCode: number;
  /**
   * Why the check could not be completed, in the words of the errno that qemu-img names ("Invalid argument"): `exitCode` is 1, and
   * qemu-img prints no counts. Null when it was completed.
   */
  readonly failure: string | null;
  readonly deep: boolean;
  /** Wall time in milliseconds. */
  readonly elapsedMs: number;
}

export interface CheckOptions {
  /** Decompress every compressed cluster too. */
  readonly deep: boolean;
  /** Findings kept of each kind; counting goes on beyond. */
  readonly maxFindings: number;
}
