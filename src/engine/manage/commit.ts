import { dirname, isAbsolute } from 'node:path';

import { openChain } from '../chain/openChain';
import { requireComplete } from '../chain/complete';
import { BlockGraph } from '../block/graph/blockGraph';
import { filesOf, readerLocks, writerRole } from '../block/graph/layerFiles';
import { keyOf } from '../block/graph/layerOpening';
import type { Layer } from '../chain/layer';
import { ACTIVE_VIEW } from '../chain/layerStatus';
import type { BlockNode } from '../block/blockNode';
import { invalidFormat, invalidRequest, readOnlyImage, reworded } from '../errors';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { requireOpenableLayer } from '../info/opening';
import { FileSource } from '../io/file';
import { FileStorage } from '../io/fileStorage';
import { acquireLocks } from '../io/imageLocks';
import { loading } from '../io/loading';
import { realPath } from '../io/realPath';
import { copyDisk, DEFAULT_COROUTINES, DEFAULT_SPARSE } from './copy/copyDisk';
import { CopySource, type CopyInput } from './copy/copySource';
import { openInput } from './copy/openInput';
import type { ManageContext, ManagedFile } from './managedImage';

export interface CommitRequest {
  readonly image: ManagedFile;
  /** The image of the chain that gets the data, by its name; null for the next one. */
  readonly base: string | null;
  /** The image keeps its data. */
  readonly keep: boolean;
  /** Bytes of data that are copied in a second at most; 0 is no limit. */
  readonly speed: number;
  /** Ends when everything would survive a loss of power. */
  readonly durable: boolean;
}

/**
 * Copies what an image holds, and those between it and the base, into the base; the image is emptied then where its format can do that.
 * A base that is smaller grows. Overlays of an image between, or other ones of the base, read something else afterwards.
 * @throws EngineError in QEMU's words; what was copied until then stays, and does not change what the image reads
 */
export async function commitImage(request: CommitRequest, context: ManageContext): Promise<void> {
  const { image } = request;
  const { gate, currentFolder, signal } = context;
  // What is read here is good for finding the files that are to be locked, and for nothing else.
  const found = await openChain(image.filename, { gate, currentFolder, format: image.format, signal, locks: null });
  try {
    requireComplete(found);
    found.layers.forEach(({ detail }) => {
      requireOpenableLayer(detail);
    });
    const top = found.layers[0]!;
    if (image.format === null && top.detail.format === 'raw') {
      context.onProbedRaw?.(image.filename);
    }
    const depth = baseDepth(found.layers, request.base);
    const storages = openForWriting(top, request.durable);
    try {
      acquireLocks(found.layers.slice(1, depth).flatMap(readerLocks));
      await commitLocked(request, found.layers, depth, storages, context);
    } finally {
      storages.forEach((storage) => storage.close());
    }
  } finally {
    found.close();
  }
}

/** @param found the chain, locked above the base, which is at `depth` */
async function commitLocked(
  { image, keep, durable, speed }: CommitRequest,
  found: readonly Layer[],
  depth: number,
  storages: readonly FileStorage[],
  context: ManageContext,
): Promise<void> {
  const base = found[depth]!;
  const { gate, currentFolder, signal, passphraseOf } = context;
  const graph = new BlockGraph({ gate, currentFolder });
  const opened = await graph.open(base.path, {
    format: base.detail.format,
    readOnly: false,
    user: 'a commit',
    durable,
    signal,
    passphraseOf: ({ depth: below }) => passphraseOf?.(found[depth + below]!) ?? null,
  });
  let input: CopyInput | null = null;
  try {
    input = await openInput({ ...image, format: found[0]!.detail.format, forceShare: true }, null, context);
    requireSameLayers(found.slice(0, depth + 1), input.chain.layers);
    await copyIntoBase(input, depth, opened.node.image, speed, context);
    await opened.close();
    const top = input.chain.layers[0]!;
    if (!keep && top.detail.format === 'qcow2') {
      await empty(top, storages, input);
    }
  } catch (error) {
    // What went wrong first is what is said; closing once more does nothing.
    await opened.close().catch(() => undefined);
    throw error;
  } finally {
    input?.chain.close();
  }
}

/** What somebody else did until the files were locked counts, but not if other files belong to the chain now. */
function requireSameLayers(locked: readonly Layer[], now: readonly Layer[]): void {
  const different = locked.find((layer, index) => {
    const other = now[index];
    return other === undefined || keyOf(layer, ACTIVE_VIEW) !== keyOf(other, ACTIVE_VIEW) || layer.detail.format !== other.detail.format;
  });
  if (different) {
    throw invalidFormat(different.source.name, 'header', 0, 'Another program changed the chain while it was opened.');
  }
}

/** @throws EngineError in QEMU's words */
async function copyIntoBase(input: CopyInput, depth: number, base: BlockNode, speed: number, context: ManageContext): Promise<void> {
  const { virtualSize } = input.chain.layers[0]!;
  try {
    if (base.size < virtualSize) {
      await base.resize(virtualSize);
    }
    await copyAbove(input, depth, base, speed, context);
    await base.flush();
  } catch (error) {
    throw reworded(error, (message) => `Block job failed: ${message}`);
  }
}

/** @throws EngineError `request.invalid` in QEMU's words */
function baseDepth(layers: readonly Layer[], name: string | null): number {
  const top = layers[0]!;
  if (name === null) {
    if (layers.length < 2) {
      throw invalidRequest('Image does not have a backing file');
    }
    return 1;
  }
  // As a name in the image above it would be understood, and as the system does: a folder that is not there has no parent.
  const found = layers.findIndex(
    ({ path }, depth) =>
      depth > 0 && name !== '' && realPath(path) === realPath(isAbsolute(name) ? name : `${dirname(layers[depth - 1]!.path)}/${name}`),
  );
  if (found < 0) {
    throw invalidRequest(`Did not find '${name}' in the backing chain of '${top.filename}'`);
  }
  return found;
}

/** The files of the image whose data is given away, locked as its writer's. */
function openForWriting(layer: Layer, durable: boolean): readonly FileStorage[] {
  const storages: FileStorage[] = [];
  try {
    for (const file of filesOf(layer)) {
      if (layer.detail.format === 'vmdk' || !(file instanceof FileSource)) {
        throw readOnlyImage(layer.filename);
      }
      storages.push(FileStorage.reopen(file, { writable: true, durable }));
    }
    const roles = readerLocks(layer).map(({ role }) => writerRole(role));
    acquireLocks(storages.map((file, index) => ({ file, role: roles[index]! })));
    return storages;
  } catch (error) {
    storages.forEach((storage) => storage.close());
    throw error;
  }
}

/** What the images above the base have, zeroes that mask it included. */
async function copyAbove(input: CopyInput, depth: number, target: BlockNode, speed: number, context: ManageContext): Promise<void> {
  const between = input.chain.layers.slice(1, depth).map(({ virtualSize }) => virtualSize);
  const source = await loading(() => new CopySource([input], { depth, end: Math.min(Infinity, ...between) }));
  try {
    await copyDisk(source, target, {
      signal: context.signal,
      onProgress: context.onProgress,
      sparseBytes: DEFAULT_SPARSE,
      compressed: false,
      wholeClusters: false,
      targetIsZero: false,
      targetBackingSize: null,
      speed,
      coroutines: DEFAULT_COROUTINES,
      outOfOrder: false,
      onUnreadable: null,
    });
  } finally {
    await source.close();
  }
}

async function empty(top: Layer, [storage, dataFile]: readonly FileStorage[], { ciphers }: CopyInput): Promise<void> {
  const node = await Qcow2Node.open({
    storage: storage!,
    dataFile,
    backing: null,
    nodeName: '#top',
    filename: top.filename,
    readOnly: false,
    cipher: ciphers.get(top) ?? null,
  });
  try {
    await node.makeEmpty();
  } catch (error) {
    await node.close().catch(() => undefined);
    throw reworded(error, (message) => `Failed to empty ${top.filename}: ${message}`);
  }
  await node.close();
}
