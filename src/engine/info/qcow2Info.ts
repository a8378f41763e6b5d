import type { LuksHeader } from '../formats/luks/header';
import { cacheQuotaOf } from '../formats/qcow2/cacheQuota';
import type { Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import { readQcow2Metadata, type Qcow2Metadata } from '../formats/qcow2/metadata';
import type { Qcow2Snapshot } from '../formats/qcow2/snapshots';
import { virtualSizeOf } from '../chain/detail';
import type { ByteSource } from '../io/source';
import { backingPart, untilNul } from './backingPart';
import type { FormatPart, SnapshotInfo } from './imageInfo';
import { luksInfo, type LuksInfo } from './luksInfo';
import { requireOpenableQcow2, type OpenedQcow2 } from './opening';

/** QAPI's ImageInfoSpecificQCow2. */
export interface Qcow2Info {
  readonly compat: '0.10' | '1.1';
  readonly compressionType: string;
  readonly lazyRefcounts?: boolean;
  readonly bitmaps?: readonly BitmapInfo[];
  readonly refcountBits: number;
  readonly encrypt?: { readonly format: 'aes' } | ({ readonly format: 'luks' } & LuksInfo);
  readonly dataFile?: string;
  readonly dataFileRaw?: boolean;
  readonly corrupt?: boolean;
  readonly extendedL2?: boolean;
  /** Not QEMU's: a cache image, in bytes. */
  readonly cacheImgQuota?: number;
  /** Of the quota; the length of the file. */
  readonly cacheImgUsed?: number;
}

/** QAPI's Qcow2BitmapInfo. */
export interface BitmapInfo {
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  readonly flags: readonly ('in-use' | 'auto')[];
}

/** @throws EngineError for what QEMU's driver does not open */
export function qcow2Info(source: ByteSource): FormatPart {
  const metadata = readQcow2Metadata(source);
  const opened = requireOpenableQcow2(metadata, 'describe');
  // Where the data lies in another file there are no snapshots to speak of, to QEMU.
  const snapshots = metadata.hasDataFile ? [] : opened.snapshots.map(snapshotInfo);
  return {
    virtualSize: virtualSizeOf(source, { format: 'qcow2', metadata, dataFile: null }),
    clusterSize: metadata.clusterSize,
    dirtyFlag: metadata.dirty,
    ...(metadata.cryptMethod === 0 ? {} : { encrypted: true as const }),
    ...backingPart(metadata),
    ...(snapshots.length > 0 ? { snapshots } : {}),
    formatSpecific: { type: 'qcow2', data: specific(metadata, opened) },
  };
}

function specific(metadata: Qcow2Metadata, opened: OpenedQcow2): Qcow2Info {
  const encrypt = encryption(metadata, opened.luks);
  const bitmaps = opened.bitmaps.map(bitmapInfo);
  const common = { compressionType: metadata.compressionType, refcountBits: metadata.refcountBits, ...(encrypt ? { encrypt } : {}) };
  if (metadata.version < 3) {
    return { compat: '0.10', ...common, ...cacheInfo(metadata) };
  }
  return {
    compat: '1.1',
    ...common,
    lazyRefcounts: metadata.lazyRefcounts,
    corrupt: metadata.corrupt,
    extendedL2: metadata.extendedL2,
    ...cacheInfo(metadata),
    ...(bitmaps.length > 0 ? { bitmaps } : {}),
    ...(metadata.dataFileName !== null ? { dataFile: untilNul(metadata.dataFileName) } : {}),
    ...(metadata.hasDataFile ? { dataFileRaw: metadata.rawDataFile } : {}),
  };
}

function cacheInfo(metadata: Qcow2Metadata): Pick<Qcow2Info, 'cacheImgQuota' | 'cacheImgUsed'> {
  const quota = cacheQuotaOf(metadata);
  return quota === null ? {} : { cacheImgQuota: quota, cacheImgUsed: metadata.source.size };
}

function encryption({ cryptMethod }: Qcow2Metadata, luks: LuksHeader | null): Qcow2Info['encrypt'] {
  if (luks) {
    return { format: 'luks', ...luksInfo(luks) };
  }
  return cryptMethod === 1 ? { format: 'aes' } : undefined;
}

function snapshotInfo(snapshot: Qcow2Snapshot): SnapshotInfo {
  const { id, name, vmStateSize, dateSec, dateNsec, vmClockNsec, icount } = snapshot;
  return {
    id: untilNul(id),
    name: untilNul(name),
    vmStateSize,
    dateSec,
    dateNsec,
    vmClockSec: Number(vmClockNsec / 1_000_000_000n),
    vmClockNsec: Number(vmClockNsec % 1_000_000_000n),
    // A count of instructions is signed to QEMU.
    ...(icount === null ? {} : { icount: BigInt.asIntN(64, icount) }),
  };
}

function bitmapInfo({ name, granularity, inUse, auto }: Qcow2Bitmap): BitmapInfo {
  return { name, granularity, flags: [...(inUse ? (['in-use'] as const) : []), ...(auto ? (['auto'] as const) : [])] };
}
