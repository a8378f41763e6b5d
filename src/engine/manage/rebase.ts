import { BlockGraph } from '../block/graph/blockGraph';
import type { OpenedImage } from '../block/graph/openedImage';
import { statusAbove } from '../block/above';
import type { BlockNode } from '../block/blockNode';
import type { Layer } from '../block/layer';
import { readDetail } from '../block/detail';
import { EngineError, unsupportedRequest } from '../errors';
import { setBackingLink } from '../formats/qcow2/manage/backingLink';
import { QuietImage } from '../formats/qcow2/manage/quietImage';
import { QedNode } from '../formats/qed/qedNode';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { resolveName } from '../gate/filename';
import { FileStorage } from '../io/fileStorage';
import { acquireLocks } from '../io/imageLocks';
import { Pace } from '../pace';
import { WriteBehind } from './copy/writeBehind';
import { isZero } from '../isZero';
import { knownFormat } from './formats';
import { whileQuiet, type ManageContext, type ManagedFile } from './managedImage';

export interface RebaseRequest {
  readonly image: ManagedFile;
  /** As it is to be recorded, absolute or relative to the image's folder; empty or null for none. */
  readonly backing: string | null;
  /** QEMU's name of its format. */
  readonly backingFormat: string | null;
  /** Only the record changes: for a backing file that was renamed or moved. What the guest reads is then the new one's. */
  readonly unsafe: boolean;
  readonly forceShare?: boolean | undefined;
  /** Ends when everything would survive a loss of power. */
  readonly durable: boolean;
}

/** Bytes that are compared at a time. */
const CHUNK = 1024 * 1024;
const SECTOR = 512;

/**
 * Builds an image on another backing file. What the guest reads stays the same: where the old and the new one differ the image gets the
 * bytes itself before.
 * @throws EngineError in QEMU's words; the image reads as before then, at any time
 */
export async function rebaseImage(request: RebaseRequest, context: ManageContext): Promise<void> {
  if (request.unsafe) {
    await changeRecord(request, context);
    return;
  }
  const { image, durable } = request;
  const { gate, currentFolder, signal, passphraseOf } = context;
  const graph = new BlockGraph({ gate, currentFolder });
  const top = await graph.open(image.filename, { format: image.format, readOnly: false, user: 'a rebase', durable, signal, passphraseOf });
  try {
    warnOfProbedRaw(image, top.node, context);
    requireFormat(request);
    const below = await openBacking(request, graph, context);
    try {
      await keepDifferences(top.node.image, below?.node ?? null, context);
    } finally {
      await below?.close();
    }
    await top.node.flush();
    await saying(request, async () => {
      requireRecordable(request, top.node.driver);
      const { backing, backingFormat } = request;
      const driver = top.node.image;
      if (driver instanceof QedNode) {
        await driver.changeBackingFile(backing === '' ? null : backing, backingFormat);
      } else {
        await whileQuiet(top.node, (quiet) => setBackingLink(quiet, backing, backingFormat));
      }
    });
  } catch (error) {
    await top.close().catch(() => undefined);
    throw error;
  }
  await top.close();
}

function warnOfProbedRaw({ format, filename }: ManagedFile, { driver }: BlockNode, context: ManageContext): void {
  if (format === null && driver === 'raw') {
    context.onProbedRaw?.(filename);
  }
}

/** @throws EngineError `request.invalid` */
function requireFormat({ backingFormat, unsafe }: RebaseRequest): void {
  if (backingFormat === null) {
    return;
  }
  try {
    knownFormat(backingFormat);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'request.invalid') {
      throw new EngineError('request.invalid', `Invalid format name: '${backingFormat}'`, {}, error);
    }
    // What is only recorded may be a format that is opened elsewhere.
    if (!unsafe) {
      throw error;
    }
  }
}

/** @throws EngineError as QEMU refuses to record a backing file */
function requireRecordable({ backing, backingFormat }: RebaseRequest, driver: BlockNode['driver']): void {
  if (backing !== null && backing !== '' && backingFormat === null) {
    throw new EngineError('request.invalid', 'backing format must be specified');
  }
  if (driver !== 'qcow2' && driver !== 'qed') {
    throw unsupportedRequest('Operation not supported');
  }
}

async function saying({ backing }: RebaseRequest, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw error instanceof EngineError
      ? new EngineError(error.code, `Could not change the backing file to '${backing ?? ''}': ${error.message}`, error.place, error)
      : error;
  }
}

async function changeRecord(request: RebaseRequest, context: ManageContext): Promise<void> {
  const { image, backing, backingFormat, durable } = request;
  const { path } = resolveName(image.filename, { imageFilename: '', role: 'backing', currentFolder: context.currentFolder });
  const storage = FileStorage.openFile(path ?? image.filename, { writable: true, durable, name: image.filename });
  try {
    const { format } = readDetail(storage, image.format);
    acquireLocks([{ file: storage, role: format === 'raw' ? 'raw-writer' : 'metadata-writer' }]);
    if (image.format === null && format === 'raw') {
      context.onProbedRaw?.(image.filename);
    }
    requireFormat(request);
    await saying(request, async () => {
      requireRecordable(request, format);
      const name = backing === '' ? null : backing;
      if (format === 'qcow2') {
        await setBackingLink(QuietImage.open(storage), name, backingFormat);
        await storage.flush();
      } else {
        const node = await QedNode.open(storage, { nodeName: '#top', filename: image.filename, backing: null, readOnly: false });
        await node.changeBackingFile(name, backingFormat);
        // It flushes, and closes its file.
        await node.close();
      }
    });
  } finally {
    storage.close();
  }
}

async function openBacking(request: RebaseRequest, graph: BlockGraph, context: ManageContext): Promise<OpenedImage | null> {
  const { image, backing, backingFormat, forceShare } = request;
  if (backing === null || backing === '') {
    return null;
  }
  const { currentFolder, signal, passphraseOf } = context;
  const { filename } = resolveName(backing, { imageFilename: image.filename, role: 'backing', currentFolder });
  const format = backingFormat === null ? null : knownFormat(backingFormat);
  const below = ({ depth, ...layer }: Layer) => passphraseOf?.({ ...layer, depth: depth + 1 }) ?? null;
  try {
    return await graph.open(filename, { format, readOnly: true, user: 'a rebase', forceShare, signal, passphraseOf: below });
  } catch (error) {
    throw error instanceof EngineError
      ? new EngineError(error.code, `Could not open new backing file '${backing}': ${error.message}`, error.place, error)
      : error;
  }
}

/** Gives the image what its old backing file has and the new one has not. */
async function keepDifferences(node: BlockNode, below: BlockNode | null, context: ManageContext): Promise<void> {
  const pace = new Pace(context);
  const old = node.backing;
  // A base further down in the same chain differs only by what lies between.
  const inChain = below !== null && isBelow(old, below);
  const unit = node instanceof Qcow2Node ? node.codec.unitBytes : (node.clusterSize ?? SECTOR);
  const had = Buffer.allocUnsafeSlow(Math.max(CHUNK, unit));
  const has = Buffer.allocUnsafeSlow(Math.max(CHUNK, unit));
  const behind = new WriteBehind(node);
  const { size } = node;
  for (let at = 0; at < size;) {
    if (pace.due()) {
      await pace.turn(at, size);
    }
    const own = await node.blockStatus(at, size - at);
    if (own.class !== 'unallocated') {
      at += own.length;
      continue;
    }
    const length = Math.min(own.length, size - at);
    const above = await statusAbove(old, inChain ? below : null, at, length);
    if (inChain && above.class === 'unallocated') {
      at += above.length;
      continue;
    }
    const end = (Math.floor(at / had.length) + 1) * had.length;
    if (above.class !== 'data' && !inChain) {
      const other = await statusAbove(below, null, at, above.length);
      if (other.class !== 'data') {
        at += other.length;
        continue;
      }
    }
    const part = Math.min(length, end - at);
    await readPadded(old, at, had.subarray(0, part));
    await readPadded(below, at, has.subarray(0, part));
    await writeDifferent(node, at, had.subarray(0, part), has.subarray(0, part), unit);
    behind.wrote(part);
    at += part;
  }
  await behind.end();
  pace.throwIfCancelled();
  context.onProgress?.(size, size);
}

function isBelow(top: BlockNode | null, wanted: BlockNode): boolean {
  for (let node = top; node !== null; node = node.backing) {
    if (node === wanted) {
      return true;
    }
  }
  return false;
}

/** Past the end of a backing file there are zeroes. */
async function readPadded(node: BlockNode | null, offset: number, target: Uint8Array): Promise<void> {
  const there = node === null ? 0 : Math.max(0, Math.min(target.length, node.size - offset));
  target.fill(0, there);
  if (node !== null && there > 0) {
    await node.read(offset, target.subarray(0, there));
  }
}

/** Writes whole units that differ somewhere, neighbours at once. */
async function writeDifferent(node: BlockNode, offset: number, had: Buffer, has: Buffer, unit: number): Promise<void> {
  const endOf = (at: number) => Math.min(had.length, (Math.floor((offset + at) / unit) + 1) * unit - offset);
  const differs = (at: number) => had.compare(has, at, endOf(at), at, endOf(at)) !== 0;
  for (let at = 0; at < had.length;) {
    if (!differs(at)) {
      at = endOf(at);
      continue;
    }
    let end = endOf(at);
    while (end < had.length && differs(end)) {
      end = endOf(end);
    }
    const bytes = had.subarray(at, end);
    // Without a backing file an image leaves zeroes unallocated, and the new one would shine through.
    await (isZero(bytes)
      ? node.writeZeroes(offset + at, bytes.length, { mayUnmap: true, explicit: true })
      : node.write(offset + at, bytes));
    at = end;
  }
}
