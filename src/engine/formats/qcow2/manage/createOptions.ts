import type { Preallocation } from '../../../block/blockNode';
import { invalidRequest } from '../../../errors';
import type { LuksCreateOptions } from '../../luks/create';
import { SECTOR_SIZE } from '../../raw/size';
import { LIMITS } from '../structures';

/** QEMU's create options of the format, by their names; sizes in bytes. */
export interface Qcow2CreateOptions {
  /** Rounded up to a whole sector. */
  readonly size: number;
  /** `1.1` (or `v3`, when left out) or `0.10` (`v2`). */
  readonly compat?: string | undefined;
  readonly backing_file?: string | null | undefined;
  readonly backing_fmt?: string | null | undefined;
  /** 65536 when left out. */
  readonly cluster_size?: number | undefined;
  readonly preallocation?: Preallocation | undefined;
  readonly lazy_refcounts?: boolean | undefined;
  /** 16 when left out. */
  readonly refcount_bits?: number | undefined;
  readonly extended_l2?: boolean | undefined;
  /** `zlib` (when left out) or `zstd`. */
  readonly compression_type?: string | undefined;
  /** The name to record; the file itself is given beside. */
  readonly data_file?: string | null | undefined;
  readonly data_file_raw?: boolean | undefined;
  readonly encrypt?: Qcow2EncryptOptions | null | undefined;
  /** Makes a cache image, whose file may grow to so many bytes (docs/cache-image.md). */
  readonly cache_img_quota?: number | undefined;
}

/** `encrypt.*`; the passphrase is given beside. */
export interface Qcow2EncryptOptions extends LuksCreateOptions {
  readonly format: string;
}

/** The options with what they stand for, each allowed and in agreement with the others. */
export interface Qcow2Settings {
  readonly size: number;
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly refcountOrder: number;
  readonly lazyRefcounts: boolean;
  readonly extendedL2: boolean;
  readonly compression: 'zlib' | 'zstd';
  readonly preallocation: Preallocation;
  readonly backing: { readonly name: string; readonly format: string | null } | null;
  readonly dataFile: { readonly name: string; readonly raw: boolean } | null;
  readonly encrypt: { readonly format: 'luks'; readonly options: LuksCreateOptions } | { readonly format: 'aes' } | null;
  readonly l1Size: number;
  readonly cacheQuota: number | null;
}

const DEFAULTS = { clusterSize: 65536, refcountBits: 16 } as const;
const VERSIONS: Readonly<Record<string, 2 | 3>> = { '0.10': 2, v2: 2, '1.1': 3, v3: 3 };

/**
 * What the options come to.
 * @throws EngineError `request.invalid` in QEMU's words
 */
export function qcow2Settings(options: Qcow2CreateOptions): Qcow2Settings {
  const clusterSize = options.cluster_size ?? DEFAULTS.clusterSize;
  const clusterBits = Math.log2(clusterSize);
  if (!(Number.isInteger(clusterBits) && clusterBits >= LIMITS.minClusterBits && clusterBits <= LIMITS.maxClusterBits)) {
    throw invalidRequest(
      `Cluster size must be a power of two between ${2 ** LIMITS.minClusterBits} and ${2 ** (LIMITS.maxClusterBits - 10)}k`,
    );
  }
  const version = VERSIONS[options.compat ?? 'v3'];
  if (!version) {
    throw invalidRequest(`Parameter 'version' does not accept value '${options.compat ?? ''}'`);
  }
  const { extended_l2: extendedL2 = false, lazy_refcounts: lazyRefcounts = false, preallocation = 'off' } = options;
  const needsModern = (wanted: boolean, what: string) => {
    if (wanted && version < 3) {
      throw invalidRequest(`${what} with compatibility level 1.1 and above (use version=v3 or greater)`);
    }
  };
  needsModern(extendedL2, 'Extended L2 entries are only supported');
  if (extendedL2 && clusterBits < LIMITS.minExtendedL2ClusterBits) {
    throw invalidRequest(
      `Extended L2 entries are only supported with cluster sizes of at least ${2 ** LIMITS.minExtendedL2ClusterBits} bytes`,
    );
  }
  const backing = options.backing_file ? { name: options.backing_file, format: options.backing_fmt ?? null } : null;
  if (backing && preallocation !== 'off' && !extendedL2) {
    throw invalidRequest('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  if (options.backing_fmt && !backing) {
    throw invalidRequest('Backing format cannot be used without backing file');
  }
  needsModern(lazyRefcounts, 'Lazy refcounts only supported');
  const refcountOrder = Math.log2(options.refcount_bits ?? DEFAULTS.refcountBits);
  if (!(Number.isInteger(refcountOrder) && refcountOrder >= 0 && refcountOrder <= 6)) {
    throw invalidRequest('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version < 3 && refcountOrder !== 4) {
    throw invalidRequest('Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)');
  }
  const { data_file: dataFile, data_file_raw: raw = false } = options;
  if (raw && !dataFile) {
    throw invalidRequest('data-file-raw requires data-file');
  }
  if (raw && backing) {
    throw invalidRequest('Backing file and data-file-raw cannot be used at the same time');
  }
  needsModern(Boolean(dataFile), 'External data files are only supported');
  const { cache_img_quota: cacheQuota = null } = options;
  if (cacheQuota !== null) {
    requireCacheable(options);
  }
  const compression = compressionType(options.compression_type ?? 'zlib');
  needsModern(compression !== 'zlib', 'Non-zlib compression type is only supported');
  const size = Math.ceil(options.size / SECTOR_SIZE) * SECTOR_SIZE;
  const l1Size = Math.ceil(size / ((clusterSize / (extendedL2 ? 16 : 8)) * clusterSize));
  if (!(size >= 0 && size <= Number.MAX_SAFE_INTEGER && l1Size * 8 <= LIMITS.maxL1Bytes)) {
    throw invalidRequest(`The image size is too large for file format 'qcow2' (try using a larger cluster size)`);
  }
  return {
    size,
    version,
    clusterBits,
    clusterSize,
    refcountOrder,
    lazyRefcounts,
    extendedL2,
    compression,
    backing,
    l1Size,
    cacheQuota,
    // A raw data file says nothing about clusters that are not allocated: all of them are.
    preallocation: raw && preallocation === 'off' ? 'metadata' : preallocation,
    dataFile: dataFile ? { name: dataFile, raw } : null,
    encrypt: encryption(options.encrypt ?? null),
  };
}

/** What a cache holds comes from its backing file, as it is there. */
function requireCacheable({ backing_file: backing, data_file: dataFile, encrypt, preallocation = 'off' }: Qcow2CreateOptions): void {
  if (!backing) {
    throw invalidRequest('cache_img_quota requires backing_file');
  }
  if (dataFile || encrypt || preallocation !== 'off') {
    throw invalidRequest('cache_img_quota cannot be used with data_file, encrypt or preallocation');
  }
}

function compressionType(name: string): 'zlib' | 'zstd' {
  if (name !== 'zlib' && name !== 'zstd') {
    throw invalidRequest(`Parameter 'compression-type' does not accept value '${name}'`);
  }
  return name;
}

function encryption(options: Qcow2EncryptOptions | null): Qcow2Settings['encrypt'] {
  if (!options) {
    return null;
  }
  switch (options.format) {
    case 'luks':
      return { format: 'luks', options };
    case 'aes':
      return { format: 'aes' };
    default:
      throw invalidRequest(`Parameter 'format' does not accept value '${options.format}'`);
  }
}
