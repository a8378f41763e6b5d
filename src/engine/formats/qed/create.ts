import { invalidRequest } from '../../errors';
import type { Storage } from '../../io/storage';
import { encode } from '../../layout/codec';
import { SECTOR_SIZE } from '../raw/size';
import { backingName } from './headerWriter';
import { QED_FEATURE, QED_HEADER, QED_LIMITS, QED_MAGIC } from './structures';

/** QEMU's create options of the format, by their names. */
export interface QedCreateOptions {
  /** Bytes; rounded up to a whole sector. */
  readonly size: number;
  /** Bytes; 65536 when left out. */
  readonly cluster_size?: number | undefined;
  /** Clusters; 4 when left out. */
  readonly table_size?: number | undefined;
  readonly backing_file?: string | null | undefined;
  /** Only that it is raw can be recorded. */
  readonly backing_fmt?: string | null | undefined;
}

const DEFAULTS = { clusterSize: 65536, tableSize: 4 } as const;

/**
 * Makes a new, empty QED image of what `storage` holds, byte for byte as `qemu-img create` does.
 * @throws EngineError `request.invalid` in QEMU's words, before anything is touched; `file.io`, `file.full`
 */
export async function createQed(storage: Storage, options: QedCreateOptions): Promise<void> {
  const { cluster_size: clusterSize = DEFAULTS.clusterSize, table_size: tableSize = DEFAULTS.tableSize } = options;
  const size = Math.ceil(options.size / SECTOR_SIZE) * SECTOR_SIZE;
  requirePower('cluster', clusterSize, QED_LIMITS.minClusterSize, QED_LIMITS.maxClusterSize);
  requirePower('table', tableSize, QED_LIMITS.minTableSize, QED_LIMITS.maxTableSize);
  const tableBytes = tableSize * clusterSize;
  const largest = (tableBytes / 8) ** 2 * clusterSize;
  if (!(size >= 0 && size <= Math.min(largest, Number.MAX_SAFE_INTEGER))) {
    throw invalidRequest(`QED image size must be a non-zero multiple of cluster size and less than ${largest} bytes`);
  }
  const name = options.backing_file ? backingName(options.backing_file) : null;
  const isRaw = name !== null && options.backing_fmt === 'raw';
  const header = new Uint8Array(QED_HEADER.length + (name?.length ?? 0));
  header.set(
    encode(QED_HEADER, {
      magic: QED_MAGIC,
      cluster_size: clusterSize,
      table_size: tableSize,
      header_size: 1,
      features: (name ? QED_FEATURE.backingFile : 0n) | (isRaw ? QED_FEATURE.backingFormatNoProbe : 0n),
      l1_table_offset: clusterSize,
      image_size: size,
      backing_filename_offset: name ? QED_HEADER.length : 0,
      backing_filename_size: name?.length ?? 0,
    }),
  );
  if (name) {
    header.set(name, QED_HEADER.length);
  }
  await storage.truncate(0);
  // What is new reads as zero: that is the L1 table.
  await storage.truncate(clusterSize + tableBytes);
  await storage.write(header, 0);
  await storage.flush();
}

function requirePower(what: string, value: number, least: number, most: number): void {
  if (!(value >= least && value <= most && Number.isInteger(Math.log2(value)))) {
    throw invalidRequest(`QED ${what} size must be within range [${least}, ${most}] and power of 2`);
  }
}
