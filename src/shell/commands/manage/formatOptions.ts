import type { FormatOptions, WritableFormat } from '../../../protocol/manage';

/** An option of an image format as a person chooses it; names and values are qemu-img's (`-o`). */
export interface OptionSpec {
  readonly name: string;
  readonly label: string;
  readonly meaning: string;
  readonly values: readonly OptionValue[];
  /** What qemu-img takes when nothing is said. */
  readonly standard: string;
  /** Whether it can be said at all beside the others. */
  readonly when?: (options: FormatOptions) => boolean;
}

export interface OptionValue {
  readonly value: string;
  readonly label: string;
  readonly meaning?: string;
}

const ON_OFF: readonly OptionValue[] = [
  { value: 'off', label: 'off' },
  { value: 'on', label: 'on' },
];

function sizes(...list: readonly string[]): readonly OptionValue[] {
  return list.map((value) => ({ value, label: value.replace(/([KM])$/, ' $1iB').replace(/^(\d+)$/, '$1 bytes') }));
}

const isVersion3 = (options: FormatOptions): boolean => (options['compat'] ?? '1.1') !== '0.10';

const PREALLOCATION: Readonly<Record<string, OptionValue>> = {
  off: { value: 'off', label: 'off', meaning: 'Space is taken when the guest writes.' },
  metadata: { value: 'metadata', label: 'metadata', meaning: 'All tables are written; data takes space when it is written.' },
  falloc: { value: 'falloc', label: 'falloc', meaning: 'The file system reserves all space at once.' },
  full: { value: 'full', label: 'full', meaning: 'All space is written with zeroes.' },
};

/** @param modes by name */
function preallocation(...modes: readonly string[]): OptionSpec {
  return {
    name: 'preallocation',
    label: 'Preallocation',
    meaning: 'What of the disk takes space from the start',
    values: modes.flatMap((mode) => PREALLOCATION[mode] ?? []),
    standard: 'off',
  };
}

const COMPAT: OptionSpec = {
  name: 'compat',
  label: 'Compatibility level',
  meaning: 'Which version of QEMU can open it',
  values: [
    { value: '1.1', label: '1.1', meaning: 'Version 3 of the format: QEMU 1.1 of 2012, and later.' },
    { value: '0.10', label: '0.10', meaning: 'Version 2: for the oldest readers.' },
  ],
  standard: '1.1',
};

const LAZY_REFCOUNTS: OptionSpec = {
  name: 'lazy_refcounts',
  label: 'Lazy refcounts',
  meaning: 'Faster allocation; after a crash the image is repaired when it is opened',
  values: ON_OFF,
  standard: 'off',
  when: isVersion3,
};

const REFCOUNT_BITS: OptionSpec = {
  name: 'refcount_bits',
  label: 'Refcount width',
  meaning: 'How often a cluster can be shared by snapshots',
  values: ['1', '2', '4', '8', '16', '32', '64'].map((value) => ({ value, label: `${value} bit${value === '1' ? '' : 's'}` })),
  standard: '16',
  when: isVersion3,
};

const ENCRYPTION: OptionSpec = {
  name: 'encrypt.format',
  label: 'Encryption',
  meaning: 'Whether what the guest writes can be read with a passphrase only',
  values: [
    { value: 'none', label: 'none' },
    { value: 'luks', label: 'LUKS', meaning: 'AES-256; a passphrase is asked for. QEMU 2.10 and later.' },
  ],
  standard: 'none',
};

const CREATE: Readonly<Record<WritableFormat, readonly OptionSpec[]>> = {
  qcow2: [
    {
      name: 'cluster_size',
      label: 'Cluster size',
      meaning: 'Unit of allocation: small saves space, large saves tables',
      values: sizes('512', '1K', '2K', '4K', '8K', '16K', '32K', '64K', '128K', '256K', '512K', '1M', '2M'),
      standard: '64K',
    },
    preallocation('off', 'metadata', 'falloc', 'full'),
    ENCRYPTION,
    COMPAT,
    LAZY_REFCOUNTS,
    REFCOUNT_BITS,
    {
      name: 'compression_type',
      label: 'Compression',
      meaning: 'How compressed clusters are compressed',
      values: [
        { value: 'zlib', label: 'zlib' },
        { value: 'zstd', label: 'zstd', meaning: 'Faster and smaller; QEMU 5.1 and later.' },
      ],
      standard: 'zlib',
      when: isVersion3,
    },
    {
      name: 'extended_l2',
      label: 'Extended L2 entries',
      meaning: 'Allocates in 32nds of a cluster; QEMU 5.2 and later',
      values: ON_OFF,
      standard: 'off',
      // Subclusters are 512 bytes at least.
      when: (options) => isVersion3(options) && !['512', '1K', '2K', '4K', '8K'].includes(options['cluster_size'] ?? '64K'),
    },
  ],
  qed: [
    {
      name: 'cluster_size',
      label: 'Cluster size',
      meaning: 'Unit of allocation',
      values: sizes('4K', '8K', '16K', '32K', '64K', '128K', '256K', '512K', '1M', '2M', '4M', '8M', '16M', '32M', '64M'),
      standard: '64K',
    },
    {
      name: 'table_size',
      label: 'Table size',
      meaning: 'Clusters that each L1 and L2 table takes',
      values: ['1', '2', '4', '8', '16'].map((value) => ({ value, label: `${value} cluster${value === '1' ? '' : 's'}` })),
      standard: '4',
    },
  ],
  raw: [preallocation('off', 'falloc', 'full')],
};

/** What can be said of a new image, as far as the other options leave it open. An overlay cannot be preallocated with data. */
export function createOptions(format: WritableFormat, options: FormatOptions, hasBacking: boolean): readonly OptionSpec[] {
  return CREATE[format].filter(({ name, when }) => (when?.(options) ?? true) && !(hasBacking && name === 'preallocation'));
}

/** Once its data file may differ from what the guest reads, it stays so. */
const DATA_FILE_RAW: OptionSpec = {
  name: 'data_file_raw',
  label: 'Data file is a raw image',
  meaning: 'Whether the data file reads by itself as the disk does; this can be given up only',
  values: ON_OFF,
  standard: 'off',
};

/** What can be changed of an existing qcow2 image. @param options as it is, and what is to change */
export function amendOptions(options: FormatOptions): readonly OptionSpec[] {
  return [COMPAT, LAZY_REFCOUNTS, REFCOUNT_BITS, DATA_FILE_RAW].filter(({ when }) => when?.(options) ?? true);
}

/** Whether an image made with these needs a passphrase. */
export function isEncrypted(options: FormatOptions): boolean {
  return options[ENCRYPTION.name] !== undefined;
}

/** Those of the options that say something that the format would not do by itself, and that still can be said. */
export function saidOptions(specs: readonly OptionSpec[], options: FormatOptions): FormatOptions {
  return Object.fromEntries(
    specs.flatMap(({ name, standard }) => {
      const value = options[name];
      return value === undefined || value === standard ? [] : [[name, value]];
    }),
  );
}
