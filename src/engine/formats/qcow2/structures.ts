import { structure, type BitRange, type EntryStructure } from '../../layout/fields';

/* Source of every fact here: QEMU's docs/interop/qcow2.rst. */

export const QCOW2_MAGIC = 0x514649fb;

export const INCOMPATIBLE_FEATURES: readonly BitRange[] = [
  {
    name: 'dirty',
    lowBit: 0,
    width: 1,
    meaning: 'Refcounts may be inconsistent (lazy refcounts); an image check is needed before writing.',
  },
  { name: 'corrupt', lowBit: 1, width: 1, meaning: 'A structure was found corrupt; the image must not be written before it is repaired.' },
  { name: 'external data file', lowBit: 2, width: 1, meaning: 'Guest data lies in a separate file; this file holds metadata only.' },
  { name: 'compression type', lowBit: 3, width: 1, meaning: 'compression_type is not zlib.' },
  { name: 'extended L2 entries', lowBit: 4, width: 1, meaning: 'L2 entries are 16 bytes with a bitmap of 32 subclusters.' },
];

export const COMPATIBLE_FEATURES: readonly BitRange[] = [
  { name: 'lazy refcounts', lowBit: 0, width: 1, meaning: 'Refcount updates may be postponed while the dirty bit is set.' },
];

export const AUTOCLEAR_FEATURES: readonly BitRange[] = [
  { name: 'bitmaps', lowBit: 0, width: 1, meaning: 'The bitmaps extension is consistent with the image.' },
  { name: 'raw external data', lowBit: 1, width: 1, meaning: 'The external data file is a raw image of the guest disk.' },
];

export const FEATURE = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  externalDataFile: 1n << 2n,
  compressionType: 1n << 3n,
  extendedL2: 1n << 4n,
  known: 0x1fn,
} as const;

export const COMPATIBLE = { lazyRefcounts: 1n << 0n } as const;
export const AUTOCLEAR = { bitmaps: 1n << 0n, rawExternalData: 1n << 1n } as const;

export const CRYPT_METHODS: Readonly<Record<number, string>> = { 0: 'none', 1: 'AES', 2: 'LUKS' };
export const COMPRESSION_TYPES: Readonly<Record<number, string>> = { 0: 'zlib', 1: 'zstd' };

export const V2_HEADER_LENGTH = 72;

export const QCOW2_HEADER = structure('qcow2 header', 'big', 112, [
  { kind: 'u32', name: 'magic', offset: 0, show: 'hex', meaning: '"QFI\\xfb" marks a qcow2 image.' },
  { kind: 'u32', name: 'version', offset: 4, show: 'number', meaning: 'Format version: 2 (compat 0.10) or 3 (compat 1.1).' },
  {
    kind: 'u64',
    name: 'backing_file_offset',
    offset: 8,
    show: 'hostOffset',
    meaning: 'Where the backing file name lies; 0 when there is no backing file.',
  },
  {
    kind: 'u32',
    name: 'backing_file_size',
    offset: 16,
    show: 'number',
    meaning: 'Length of the backing file name in bytes, at most 1023.',
  },
  { kind: 'u32', name: 'cluster_bits', offset: 20, show: 'number', meaning: 'Cluster size is 2 to this power: 9 (512 B) to 21 (2 MiB).' },
  { kind: 'u64', name: 'size', offset: 24, show: 'size', meaning: 'Virtual disk size in bytes.' },
  { kind: 'u32', name: 'crypt_method', offset: 32, show: 'enum', values: CRYPT_METHODS, meaning: 'How guest data is encrypted.' },
  { kind: 'u32', name: 'l1_size', offset: 36, show: 'number', meaning: 'Number of entries in the active L1 table.' },
  { kind: 'u64', name: 'l1_table_offset', offset: 40, show: 'hostOffset', meaning: 'Where the active L1 table lies; cluster aligned.' },
  {
    kind: 'u64',
    name: 'refcount_table_offset',
    offset: 48,
    show: 'hostOffset',
    meaning: 'Where the refcount table lies; cluster aligned.',
  },
  { kind: 'u32', name: 'refcount_table_clusters', offset: 56, show: 'number', meaning: 'Length of the refcount table in clusters.' },
  { kind: 'u32', name: 'nb_snapshots', offset: 60, show: 'number', meaning: 'Number of internal snapshots.' },
  { kind: 'u64', name: 'snapshots_offset', offset: 64, show: 'hostOffset', meaning: 'Where the snapshot table lies; cluster aligned.' },
  {
    kind: 'u64',
    name: 'incompatible_features',
    offset: 72,
    since: 3,
    show: 'bits',
    bits: INCOMPATIBLE_FEATURES,
    meaning: 'Features a program must know to open the image at all.',
  },
  {
    kind: 'u64',
    name: 'compatible_features',
    offset: 80,
    since: 3,
    show: 'bits',
    bits: COMPATIBLE_FEATURES,
    meaning: 'Features a program may ignore.',
  },
  {
    kind: 'u64',
    name: 'autoclear_features',
    offset: 88,
    since: 3,
    show: 'bits',
    bits: AUTOCLEAR_FEATURES,
    meaning: 'Features a writer that does not know them must clear.',
  },
  {
    kind: 'u32',
    name: 'refcount_order',
    offset: 96,
    since: 3,
    show: 'number',
    meaning: 'A refcount is 2 to this power bits wide: 0 (1 bit) to 6 (64 bits).',
  },
  {
    kind: 'u32',
    name: 'header_length',
    offset: 100,
    since: 3,
    show: 'number',
    meaning: 'Length of this header in bytes; extensions follow it.',
  },
  {
    kind: 'u8',
    name: 'compression_type',
    offset: 104,
    since: 3,
    show: 'enum',
    values: COMPRESSION_TYPES,
    meaning: 'How compressed clusters are packed.',
  },
  {
    kind: 'bytes',
    name: 'padding',
    offset: 105,
    since: 3,
    length: 7,
    show: 'hex',
    meaning: 'Zero; pads the header to a multiple of 8 bytes.',
  },
]);

export const EXTENSION_HEADER = structure('header extension', 'big', 8, [
  { kind: 'u32', name: 'type', offset: 0, show: 'hex', meaning: 'What the extension holds.' },
  { kind: 'u32', name: 'length', offset: 4, show: 'number', meaning: 'Length of its data in bytes, without the padding to 8.' },
]);

export const EXTENSION = {
  end: 0x00000000,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  encryption: 0x0537be77,
  dataFile: 0x44415441,
  /** Ours, not QEMU's: docs/cache-image.md. `CSCQ`. */
  cacheQuota: 0x43534351,
} as const;

export const EXTENSION_TITLES: Readonly<Record<number, string>> = {
  [EXTENSION.end]: 'end of header extensions',
  [EXTENSION.backingFormat]: 'backing file format name',
  [EXTENSION.featureNames]: 'feature name table',
  [EXTENSION.bitmaps]: 'bitmaps extension',
  [EXTENSION.encryption]: 'full disk encryption header pointer',
  [EXTENSION.dataFile]: 'external data file name',
  [EXTENSION.cacheQuota]: 'cache image quota',
};

export const FEATURE_NAME_ENTRY = structure('feature name table entry', 'big', 48, [
  {
    kind: 'u8',
    name: 'type',
    offset: 0,
    show: 'enum',
    values: { 0: 'incompatible', 1: 'compatible', 2: 'autoclear' },
    meaning: 'Which feature field the bit belongs to.',
  },
  { kind: 'u8', name: 'bit', offset: 1, show: 'number', meaning: 'Bit number in that field.' },
  { kind: 'ascii', name: 'name', offset: 2, length: 46, show: 'text', meaning: 'Name to show when the program does not know the bit.' },
]);

export const BITMAPS_EXTENSION = structure('bitmaps extension', 'big', 24, [
  { kind: 'u32', name: 'nb_bitmaps', offset: 0, show: 'number', meaning: 'Number of persistent bitmaps.' },
  { kind: 'u32', name: 'reserved', offset: 4, show: 'hex', meaning: 'Zero.' },
  { kind: 'u64', name: 'bitmap_directory_size', offset: 8, show: 'size', meaning: 'Length of the bitmap directory in bytes.' },
  {
    kind: 'u64',
    name: 'bitmap_directory_offset',
    offset: 16,
    show: 'hostOffset',
    meaning: 'Where the bitmap directory lies; cluster aligned.',
  },
]);

export const ENCRYPTION_EXTENSION = structure('full disk encryption header pointer', 'big', 16, [
  { kind: 'u64', name: 'offset', offset: 0, show: 'hostOffset', meaning: 'Where the encryption header (LUKS) lies; cluster aligned.' },
  { kind: 'u64', name: 'length', offset: 8, show: 'size', meaning: 'Its length in bytes.' },
]);

export const CACHE_QUOTA_EXTENSION = structure('cache image quota', 'big', 8, [
  {
    kind: 'u64',
    name: 'quota',
    offset: 0,
    show: 'size',
    meaning: 'Reads are copied into the image until its file would be longer than this.',
  },
]);

export const SNAPSHOT_ENTRY = structure('snapshot table entry', 'big', 40, [
  { kind: 'u64', name: 'l1_table_offset', offset: 0, show: 'hostOffset', meaning: "Where the snapshot's L1 table lies; cluster aligned." },
  { kind: 'u32', name: 'l1_size', offset: 8, show: 'number', meaning: 'Number of entries in that table.' },
  { kind: 'u16', name: 'id_str_size', offset: 12, show: 'number', meaning: 'Length of the unique id in bytes.' },
  { kind: 'u16', name: 'name_size', offset: 14, show: 'number', meaning: 'Length of the name in bytes.' },
  { kind: 'u32', name: 'date_sec', offset: 16, show: 'time', meaning: 'When it was taken, seconds since 1970.' },
  { kind: 'u32', name: 'date_nsec', offset: 20, show: 'number', meaning: 'Nanoseconds of that second.' },
  { kind: 'u64', name: 'vm_clock_nsec', offset: 24, show: 'number', meaning: 'How long the guest had been running, in nanoseconds.' },
  { kind: 'u32', name: 'vm_state_size', offset: 32, show: 'size', meaning: 'Length of the saved VM state in bytes; 0 without one.' },
  { kind: 'u32', name: 'extra_data_size', offset: 36, show: 'number', meaning: 'Length of the extra data that follows, in bytes.' },
]);

export const SNAPSHOT_EXTRA = structure('snapshot extra data', 'big', 24, [
  { kind: 'u64', name: 'vm_state_size_large', offset: 0, show: 'size', meaning: 'Length of the saved VM state in bytes, 64 bits wide.' },
  { kind: 'u64', name: 'disk_size', offset: 8, show: 'size', meaning: 'Virtual disk size when it was taken, in bytes.' },
  { kind: 'u64', name: 'icount', offset: 16, show: 'number', meaning: 'Instruction count at that moment; all ones when not recorded.' },
]);

export const BITMAP_DIRECTORY_ENTRY = structure('bitmap directory entry', 'big', 24, [
  { kind: 'u64', name: 'bitmap_table_offset', offset: 0, show: 'hostOffset', meaning: 'Where the bitmap table lies; cluster aligned.' },
  { kind: 'u32', name: 'bitmap_table_size', offset: 8, show: 'number', meaning: 'Number of entries in that table.' },
  {
    kind: 'u32',
    name: 'flags',
    offset: 12,
    show: 'bits',
    meaning: 'State of the bitmap.',
    bits: [
      { name: 'in_use', lowBit: 0, width: 1, meaning: 'The bitmap was not saved correctly; its contents cannot be trusted.' },
      { name: 'auto', lowBit: 1, width: 1, meaning: 'The bitmap records writes as soon as the image is opened for writing.' },
      { name: 'extra_data_compatible', lowBit: 2, width: 1, meaning: 'Unknown extra data may be ignored.' },
    ],
  },
  { kind: 'u8', name: 'type', offset: 16, show: 'enum', values: { 1: 'dirty tracking bitmap' }, meaning: 'What the bitmap records.' },
  { kind: 'u8', name: 'granularity_bits', offset: 17, show: 'number', meaning: 'One bit stands for 2 to this power guest bytes: 9 to 31.' },
  { kind: 'u16', name: 'name_size', offset: 18, show: 'number', meaning: 'Length of the name in bytes, at most 1023.' },
  { kind: 'u32', name: 'extra_data_size', offset: 20, show: 'number', meaning: 'Length of the extra data in bytes.' },
]);

const HOST_CLUSTER_MEANING = 'Offset in the image file; cluster aligned.';

export const L1_ENTRY: EntryStructure = {
  title: 'L1 table entry',
  order: 'big',
  bits: [
    { name: 'reserved', lowBit: 0, width: 9, show: 'reserved', meaning: 'Zero.' },
    {
      name: 'l2_offset',
      lowBit: 9,
      width: 47,
      show: 'hostOffset',
      meaning: `Where the L2 table lies; 0 when none is allocated. ${HOST_CLUSTER_MEANING}`,
    },
    { name: 'reserved', lowBit: 56, width: 7, show: 'reserved', meaning: 'Zero.' },
    {
      name: 'OFLAG_COPIED',
      lowBit: 63,
      width: 1,
      show: 'flag',
      meaning: "The L2 table's refcount is exactly one: it may be written in place.",
    },
  ],
};

export const L2_ENTRY: EntryStructure = {
  title: 'L2 table entry',
  order: 'big',
  bits: [
    { name: 'OFLAG_ZERO', lowBit: 0, width: 1, show: 'flag', meaning: 'The cluster reads as zeroes, whatever it maps to.' },
    { name: 'reserved', lowBit: 1, width: 8, show: 'reserved', meaning: 'Zero.' },
    {
      name: 'host_cluster_offset',
      lowBit: 9,
      width: 47,
      show: 'hostOffset',
      meaning: `Where the data lies; 0 when unallocated. ${HOST_CLUSTER_MEANING}`,
    },
    { name: 'reserved', lowBit: 56, width: 6, show: 'reserved', meaning: 'Zero.' },
    { name: 'OFLAG_COMPRESSED', lowBit: 62, width: 1, show: 'flag', meaning: 'The entry is a compressed cluster descriptor.' },
    {
      name: 'OFLAG_COPIED',
      lowBit: 63,
      width: 1,
      show: 'flag',
      meaning: "The cluster's refcount is exactly one: it may be written in place.",
    },
  ],
};

/** The compressed cluster descriptor's bit ranges depend on the cluster size. */
export function compressedEntry(clusterBits: number): EntryStructure {
  const x = 62 - (clusterBits - 8);
  return {
    title: 'compressed cluster descriptor',
    order: 'big',
    bits: [
      { name: 'host_offset', lowBit: 0, width: x, show: 'hostOffset', meaning: 'Where the compressed bytes begin; not aligned.' },
      {
        name: 'additional_sectors',
        lowBit: x,
        width: 62 - x,
        show: 'number',
        meaning: 'Number of further 512-byte sectors that the compressed bytes use.',
      },
      { name: 'OFLAG_COMPRESSED', lowBit: 62, width: 1, show: 'flag', meaning: 'Set: this is a compressed cluster descriptor.' },
      { name: 'OFLAG_COPIED', lowBit: 63, width: 1, show: 'flag', meaning: 'Never set for compressed clusters.' },
    ],
  };
}

/** The second word of an extended L2 entry. */
export const SUBCLUSTER_BITMAP: EntryStructure = {
  title: 'subcluster bitmap',
  order: 'big',
  bits: [
    { name: 'allocated', lowBit: 0, width: 32, show: 'number', meaning: 'One bit for each subcluster that has data in the host cluster.' },
    { name: 'zero', lowBit: 32, width: 32, show: 'number', meaning: 'One bit for each subcluster that reads as zeroes.' },
  ],
};

export const REFCOUNT_TABLE_ENTRY: EntryStructure = {
  title: 'refcount table entry',
  order: 'big',
  bits: [
    { name: 'reserved', lowBit: 0, width: 9, show: 'reserved', meaning: 'Zero.' },
    {
      name: 'refcount_block_offset',
      lowBit: 9,
      width: 55,
      show: 'hostOffset',
      meaning: `Where the refcount block lies; 0 when none is allocated. ${HOST_CLUSTER_MEANING}`,
    },
  ],
};

export const BITMAP_TABLE_ENTRY: EntryStructure = {
  title: 'bitmap table entry',
  order: 'big',
  bits: [
    {
      name: 'all_ones',
      lowBit: 0,
      width: 1,
      show: 'flag',
      meaning: 'When the offset is 0: the whole cluster of bits is ones instead of zeroes.',
    },
    { name: 'reserved', lowBit: 1, width: 8, show: 'reserved', meaning: 'Zero.' },
    {
      name: 'bitmap_cluster_offset',
      lowBit: 9,
      width: 47,
      show: 'hostOffset',
      meaning: `Where the cluster of bits lies. ${HOST_CLUSTER_MEANING}`,
    },
    { name: 'reserved', lowBit: 56, width: 8, show: 'reserved', meaning: 'Zero.' },
  ],
};

/** Bit masks of the entries for scans, which never go through the declarations above entry by entry. */
export const OFLAG_COPIED = 1n << 63n;
export const OFLAG_COMPRESSED = 1n << 62n;
export const OFLAG_ZERO = 1n << 0n;
export const L1_OFFSET_MASK = 0x00fffffffffffe00n;
export const L1_RESERVED_MASK = 0x7f000000000001ffn;
export const L2_OFFSET_MASK = 0x00fffffffffffe00n;
export const L2_RESERVED_MASK = 0x3f000000000001fen;
export const REFCOUNT_OFFSET_MASK = 0xfffffffffffffe00n;
export const BITMAP_OFFSET_MASK = 0x00fffffffffffe00n;

/** What QEMU's driver accepts at most. */
export const LIMITS = {
  minClusterBits: 9,
  maxClusterBits: 21,
  minExtendedL2ClusterBits: 14,
  maxL1Bytes: 32 * 1024 * 1024,
  maxRefcountTableBytes: 8 * 1024 * 1024,
  maxSnapshots: 65536,
  maxSnapshotTableBytes: 64 * 1024 * 1024,
  maxSnapshotExtraBytes: 1024,
  maxBitmaps: 65535,
  maxBackingFileName: 1023,
  maxHostOffset: 2 ** 56,
  subclustersPerCluster: 32,
} as const;
