import { BlockGraph } from '../block/graph/blockGraph';
import type { OpenedImage } from '../block/graph/openedImage';
import type { BlockNode } from '../block/blockNode';
import type { Layer } from '../chain/layer';
import { readDetail } from '../chain/detail';
import { EngineError, reworded, unsupportedRequest } from '../errors';
import { setBackingLink } from '../formats/qcow2/manage/backingLink';
import { QuietImage } from '../formats/qcow2/manage/quietImage';
import { QedNode } from '../formats/qed/qedNode';
import { resolveName } from '../gate/filename';
import { FileStorage } from '../io/fileStorage';
import { acquireLocks } from '../io/imageLocks';
import { Pace } from '../pace';
import { Differences } from './copy/differences';
import { WriteBehind } from './copy/writeBehind';
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
    throw reworded(error, (message) => `Could not change the backing file to '${backing ?? ''}': ${message}`);
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
    throw reworded(error, (message) => `Could not open new backing file '${backing}': ${message}`);
  }
}

/** Gives the image what its old backing file has and the new one has not. */
async function keepDifferences(node: BlockNode, below: BlockNode | null, context: ManageContext): Promise<void> {
  const pace = new Pace(context);
  const differences = new Differences(node, below);
  const behind = new WriteBehind(node);
  const { size } = node;
  for (let at = 0; at < size;) {
    if (pace.due()) {
      await pace.turn(at, size);
    }
    const { length, compare } = await differences.look(at, size - at);
    if (compare) {
      behind.wrote(await differences.keep(at, length));
    }
    at += length;
  }
  await behind.end();
  pace.throwIfCancelled();
  context.onProgress?.(size, size);
}
