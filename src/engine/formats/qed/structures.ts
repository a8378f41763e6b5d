import { structure, type BitRange } from '../../layout/fields';

/* Source of every fact here: QEMU's docs/interop/qed_spec.rst. */

export const QED_MAGIC = 0x00444551;

export const QED_FEATURES: readonly BitRange[] = [
  { name: 'backing file', lowBit: 0, width: 1, meaning: 'The image has a backing file.' },
  { name: 'need check', lowBit: 1, width: 1, meaning: 'The image was not closed cleanly; it must be checked before it is used.' },
  { name: 'backing format no probe', lowBit: 2, width: 1, meaning: 'The backing file is raw; its format must not be guessed.' },
];

export const QED_FEATURE = { backingFile: 1n, needCheck: 2n, backingFormatNoProbe: 4n, known: 7n } as const;

export const QED_HEADER = structure('QED header', 'little', 64, [
  { kind: 'u32', name: 'magic', offset: 0, show: 'hex', meaning: '"QED\\0" marks a QED image.' },
  { kind: 'u32', name: 'cluster_size', offset: 4, show: 'size', meaning: 'Cluster size in bytes: a power of two, 4 KiB to 64 MiB.' },
  { kind: 'u32', name: 'table_size', offset: 8, show: 'number', meaning: 'Length of an L1 or L2 table in clusters: 1, 2, 4, 8 or 16.' },
  { kind: 'u32', name: 'header_size', offset: 12, show: 'number', meaning: 'Length of the header in clusters.' },
  {
    kind: 'u64',
    name: 'features',
    offset: 16,
    show: 'bits',
    bits: QED_FEATURES,
    meaning: 'Features a program must know to open the image at all.',
  },
  { kind: 'u64', name: 'compat_features', offset: 24, show: 'bits', bits: [], meaning: 'Features a program may ignore.' },
  {
    kind: 'u64',
    name: 'autoclear_features',
    offset: 32,
    show: 'bits',
    bits: [],
    meaning: 'Features a writer that does not know them must clear.',
  },
  { kind: 'u64', name: 'l1_table_offset', offset: 40, show: 'hostOffset', meaning: 'Where the L1 table lies; cluster aligned.' },
  { kind: 'u64', name: 'image_size', offset: 48, show: 'size', meaning: 'Virtual disk size in bytes, a multiple of 512.' },
  {
    kind: 'u32',
    name: 'backing_filename_offset',
    offset: 56,
    show: 'hostOffset',
    meaning: 'Where the backing file name lies, within the header.',
  },
  { kind: 'u32', name: 'backing_filename_size', offset: 60, show: 'number', meaning: 'Length of that name in bytes.' },
]);

/** Entries below 2 are no offsets: 0 unallocated, 1 a zero cluster (L2 only). */
export const QED_UNALLOCATED = 0n;
export const QED_ZERO_CLUSTER = 1n;

export const QED_LIMITS = { minClusterSize: 2 ** 12, maxClusterSize: 2 ** 26, minTableSize: 1, maxTableSize: 16, sectorSize: 512 } as const;
