import { openedName } from '../gate/filename';
import { readAvailable, type ByteSource } from '../io/source';
import { isLuks, readLuksHeader, requireOpenableLuks } from '../formats/luks/header';
import { probeFormat } from '../formats/probe';
import { readQedMetadata, requireOpenableQed } from '../formats/qed/metadata';
import { backingPart } from './backingPart';
import { luksInfo, type LuksInfo } from './luksInfo';
import { qcow2Info, type Qcow2Info } from './qcow2Info';
import { vmdkInfo, type VmdkInfo } from './vmdkInfo';

/**
 * What `qemu-img info` says of one image, as data. Names follow QAPI's ImageInfo (qapi/block-core.json) in camel case; members that
 * qemu-img leaves out are absent here too. Sizes are bytes.
 */
export interface ImageInfo {
  /** As the image was named. */
  readonly filename: string;
  readonly format: InfoFormat | ProtocolDriver;
  readonly virtualSize: number;
  /** Bytes that the file system has allocated for the image's files; absent where nobody tells. */
  readonly actualSize?: number;
  readonly clusterSize?: number;
  readonly encrypted?: true;
  readonly backingFilename?: string;
  /** The name that the backing file is opened by: relative to what the image's own name is relative to. */
  readonly fullBackingFilename?: string;
  readonly backingFilenameFormat?: string;
  readonly snapshots?: readonly SnapshotInfo[];
  readonly formatSpecific?: FormatSpecificInfo;
  /** Whether the image was not shut down cleanly; absent for a server's export or file, which has no such state. */
  readonly dirtyFlag?: boolean;
}

/** What an image can be looked at as; `file` is the protocol itself, without a format above it. */
export type InfoFormat = 'qcow2' | 'qed' | 'vmdk' | 'raw' | 'luks' | 'file';

/** A server's export or file itself, without a format above it. */
export type ProtocolDriver = 'nbd' | 'http' | 'https';

export type FormatSpecificInfo =
  | { readonly type: 'qcow2'; readonly data: Qcow2Info }
  | { readonly type: 'vmdk'; readonly data: VmdkInfo }
  | { readonly type: 'luks'; readonly data: LuksInfo };

/** QAPI's SnapshotInfo. */
export interface SnapshotInfo {
  readonly id: string;
  readonly name: string;
  readonly vmStateSize: number;
  /** Seconds since 1970 and nanoseconds of that second. */
  readonly dateSec: number;
  readonly dateNsec: number;
  readonly vmClockSec: number;
  readonly vmClockNsec: number;
  readonly icount?: bigint;
}

/** The parts that a format adds to what every file has. */
export type FormatPart = Omit<ImageInfo, 'filename' | 'format' | 'actualSize' | 'fullBackingFilename' | 'dirtyFlag'> & {
  readonly dirtyFlag?: boolean;
  /** Bytes allocated for further files that belong to the image. */
  readonly furtherActualSize?: number;
};

/** Files that an image names, by absolute path. Null: not there, or not to be looked at. */
export interface FurtherFiles {
  /** Bytes that the file system has allocated, without opening the file. */
  allocated(path: string): number | null;
  /** The caller of this closes what it gets. */
  open(path: string): ByteSource | null;
}

export interface InfoOptions {
  /** How the caller named the image, for `filename`. */
  readonly filename: string;
  /** How the caller named the file itself; relative names in the image are relative to the folder part of this. */
  readonly fileName: string;
  /** Absolute path that relative names are relative to where not to the image's folder. */
  readonly currentFolder: string;
  /** Null: probe. */
  readonly format: InfoFormat | null;
  /** The image was named as that protocol's node: it is read as `raw`, but it is none. */
  readonly protocolDriver?: ProtocolDriver | undefined;
  /** How to learn of files that the image names (VMDK extents); absent: not at all. Their absence leaves members out. */
  readonly further?: FurtherFiles | undefined;
}

/** QEMU's block layer counts sectors: a raw image's size is rounded up to this. */
const SECTOR = 512;

/**
 * Reads what `qemu-img info` shows, from the image's own file alone, and refuses what QEMU's driver refuses to open.
 * @throws EngineError `format.invalid`, `format.unsupported`, `file.io`
 */
export function readImageInfo(source: ByteSource, options: InfoOptions): ImageInfo {
  const format = options.format ?? probeInfoFormat(source);
  const { furtherActualSize = 0, ...part } = formatPart(source, format, options);
  const { backingFilename } = part;
  return {
    filename: options.filename,
    format: options.protocolDriver ?? format,
    ...(source.allocationKnown === false ? {} : { actualSize: source.allocatedBytes + furtherActualSize }),
    ...(options.protocolDriver ? {} : { dirtyFlag: false }),
    ...part,
    ...(backingFilename === undefined ? {} : { fullBackingFilename: fullBackingFilename(backingFilename, options) }),
  };
}

/**
 * Like `probeFormat`, and LUKS besides: its header can be shown although its data cannot be read.
 * @throws EngineError `format.unsupported` for a format that cannot be read; `file.io`
 */
export function probeInfoFormat(source: ByteSource): InfoFormat {
  const head = readAvailable(source, 0, 8);
  // QEMU's LUKS driver knows version 1; to it a newer volume is a raw disk.
  return isLuks(head) ? (head[6] === 0 && head[7] === 1 ? 'luks' : 'raw') : probeFormat(source);
}

function formatPart(source: ByteSource, format: InfoFormat, options: InfoOptions): FormatPart {
  switch (format) {
    case 'raw':
    case 'file':
      return { virtualSize: roundUp(source.size) };
    case 'qcow2':
      return qcow2Info(source);
    case 'qed':
      return qedInfo(source);
    case 'vmdk':
      return vmdkInfo(source, options);
    case 'luks': {
      const luks = readLuksHeader(source, 0);
      requireOpenableLuks(luks);
      return {
        virtualSize: roundUp(Math.max(0, source.size - luks.payloadOffset)),
        encrypted: true,
        formatSpecific: { type: 'luks', data: luksInfo(luks) },
      };
    }
  }
}

function qedInfo(source: ByteSource): FormatPart {
  const metadata = readQedMetadata(source);
  requireOpenableQed(metadata);
  return {
    virtualSize: metadata.size,
    clusterSize: metadata.clusterSize,
    // Although the header has such a flag, qemu-img says nothing of it for QED.
    dirtyFlag: false,
    ...backingPart(metadata),
  };
}

/** The name that QEMU would open the backing file by. */
function fullBackingFilename(backingFilename: string, { fileName, currentFolder }: InfoOptions): string {
  return openedName(backingFilename, { imageFilename: fileName, role: 'backing', currentFolder });
}

function roundUp(size: number): number {
  return Math.ceil(size / SECTOR) * SECTOR;
}
