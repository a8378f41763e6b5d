import type { FindingCategory, FindingKind } from '../../src/protocol/check';

/** Headings for the kinds of findings. */
export const KIND_TITLES: Readonly<Record<FindingKind, string>> = {
  leak: 'Leaked clusters',
  refcountTooLow: 'Refcount lower than references',
  copiedFlag: 'COPIED flag contradicts the refcount',
  reservedBits: 'Reserved bits are set',
  misalignedL2: 'L2 table offset not aligned',
  misalignedData: 'Data cluster offset not aligned',
  misalignedRefcountBlock: 'Refcount block offset not aligned',
  referencePastEnd: 'References past the end of the file',
  refcountOverflow: 'More references than a refcount holds',
  refcountBlockPastEnd: 'Refcount block outside the image',
  refcountBlockShared: 'Refcount block used twice',
  compressedCopied: 'Compressed cluster with COPIED flag',
  compressedWithDataFile: 'Compressed cluster although there is a data file',
  compressedSubclusters: 'Compressed cluster with subcluster bits',
  subclusterConflict: 'Subcluster both allocated and zero',
  snapshotTable: 'Snapshot table',
  bitmapDirectory: 'Bitmap directory',
  bitmapTable: 'Bitmap tables',
  tableOverlap: 'Tables overlap',
  unreadable: 'Could not be read',
  qedTableOffset: 'QED table offset invalid',
  qedDataOffset: 'QED data offset invalid',
  qedDoublyUsed: 'QED cluster used twice',
  doublyUsedData: 'Data cluster used twice',
  dataIntoMetadata: 'Data entry points into metadata',
  undecodableCompressed: 'Compressed cluster does not decompress',
  truncatedDataFile: 'Data file is too short',
  snapshotCopiedFlag: 'COPIED flag wrong in a snapshot',
  mappedPastSize: 'Data mapped past the disk size',
  chainLoop: 'Backing chain loops',
  lostTable: 'Lost table',
  lostData: 'Lost data',
};

export interface CategoryLook {
  readonly label: string;
  readonly severity: 'error' | 'warning' | 'info';
  readonly meaning: string;
}

export const CATEGORIES: Readonly<Record<FindingCategory, CategoryLook>> = {
  corruption: { label: 'Corruption', severity: 'error', meaning: 'The image is damaged; counted as a corruption by qemu-img check.' },
  leak: { label: 'Leak', severity: 'warning', meaning: 'Space that nothing uses; counted as a leak by qemu-img check.' },
  checkError: {
    label: 'Check error',
    severity: 'error',
    meaning: 'Something could not be checked; counted as a check error by qemu-img check.',
  },
  extra: { label: 'Beyond qemu-img', severity: 'warning', meaning: 'Found by Chainscope only; not part of the comparable counts.' },
};

export const CATEGORY_ORDER: readonly FindingCategory[] = ['corruption', 'checkError', 'leak', 'extra'];
