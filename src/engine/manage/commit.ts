import { dirname, resolve } from 'node:path';

import { BlockGraph } from '../block/graph/blockGraph';
import { filesOf, readerLocks, writerRole } from '../block/graph/layerFiles';
import type { Layer } from '../block/layer';
import { openReader, type ChainReader } from '../block/node';
import type { BlockNode } from '../block/blockNode';
import { EngineError, invalidRequest, readOnlyImage } from '../errors';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { FileSource } from '../io/file';
import { FileStorage } from '../io/fileStorage';
import { acquireLocks } from '../io/imageLocks';
import { Pace } from '../pace';
import type { CopyInput } from './copy/copySource';
import { isZero } from './copy/zeroRuns';
import { openInput } from './copy/openInput';
import type { ManageContext, ManagedFile } from './managedImage';

export interface CommitRequest {
  readonly image: ManagedFile;
  /** The image of the chain that gets the data, by its name; null for the next one. */
  readonly base: string | null;
  /** The image keeps its data. */
  readonly keep: boolean;
  /** Ends when everything would survive a loss of power. */
  readonly durable: boolean;
}

/** Bytes that are copied at a time. */
const CHUNK = 1024 * 1024;

/**
 * Copies what an image holds, and those between it and the base, into the base; the image is emptied then where its format can do that.
 * A base that is smaller grows. Overlays of an image between, or other ones of the base, read something else afterwards.
 * @throws EngineError in QEMU's words; what was copied until then stays, and does not change what the image reads
 */
export async function commitImage(request: CommitRequest, context: ManageContext): Promise<void> {
  const { image, keep, durable } = request;
  // Locked below, each file by what is done to it.
  const input = await openInput({ ...image, forceShare: true }, null, context);
  try {
    const { layers } = input.chain;
    const top = layers[0]!;
    if (image.format === null && top.detail.format === 'raw') {
      context.onProbedRaw?.(image.filename);
    }
    const depth = baseDepth(layers, request.base);
    const base = layers[depth]!;
    const { gate, currentFolder, signal, passphraseOf } = context;
    const storages = openForWriting(top, durable);
    try {
      acquireLocks(layers.slice(1, depth).flatMap(readerLocks));
      const graph = new BlockGraph({ gate, currentFolder });
      const opened = await graph.open(base.path, {
        format: base.detail.format,
        readOnly: false,
        user: 'a commit',
        durable,
        signal,
        passphraseOf: ({ depth: below }) => passphraseOf?.(layers[depth + below]!) ?? null,
      });
      try {
        const target = opened.node.image;
        if (target.size < top.virtualSize) {
          await target.resize(top.virtualSize);
        }
        await copyAbove(input, depth, target, context);
        await target.flush();
      } catch (error) {
        await opened.close().catch(() => undefined);
        throw error instanceof EngineError && error.code !== 'cancelled'
          ? new EngineError(error.code, `Block job failed: ${error.message}`, error.place, error)
          : error;
      }
      await opened.close();
      if (!keep && top.detail.format === 'qcow2') {
        await empty(top, storages, input);
      }
    } finally {
      storages.forEach((storage) => storage.close());
    }
  } finally {
    input.chain.close();
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
  // As a name in the image above it would be understood.
  const found = layers.findIndex(({ path }, depth) => depth > 0 && path === resolve(dirname(layers[depth - 1]!.path), name));
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

async function copyAbove({ chain, ciphers }: CopyInput, depth: number, target: BlockNode, context: ManageContext): Promise<void> {
  const pace = new Pace(context);
  const reader = openReader(chain, { ciphers });
  const shortest = Math.min(...chain.layers.slice(1, depth).map(({ virtualSize }) => virtualSize));
  const buffer = Buffer.allocUnsafeSlow(CHUNK);
  const { size } = reader;
  for (let at = 0; at < size;) {
    if (pace.due()) {
      await pace.turn(at, size);
    }
    const extent = reader.blockStatus(at, size - at);
    if (extent.depth === null ? at < shortest : extent.depth >= depth) {
      at += extent.depth === null && at < shortest ? Math.min(extent.length, shortest - at) : extent.length;
      continue;
    }
    if (extent.depth === null || extent.class === 'zero' || extent.class === 'unallocated') {
      await writeZeroes(target, at, extent.length);
      at += extent.length;
      continue;
    }
    const length = dataLength(reader, at, depth, Math.min(size, (Math.floor(at / CHUNK) + 1) * CHUNK) - at);
    const part = buffer.subarray(0, length);
    reader.read(at, part);
    await (isZero(part) ? writeZeroes(target, at, length) : target.write(at, part));
    at += length;
  }
  pace.throwIfCancelled();
  context.onProgress?.(size, size);
}

/** How far the data goes that lies above the base. */
function dataLength(reader: ChainReader, from: number, depth: number, most: number): number {
  let length = 0;
  while (length < most) {
    const extent = reader.blockStatus(from + length, most - length);
    if (extent.depth === null || extent.depth >= depth || extent.class === 'zero' || extent.class === 'unallocated') {
      break;
    }
    length += extent.length;
  }
  return length;
}

async function writeZeroes(target: BlockNode, offset: number, length: number): Promise<void> {
  await target.writeZeroes(offset, length, { mayUnmap: true });
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
    throw error instanceof EngineError
      ? new EngineError(error.code, `Failed to empty ${top.filename}: ${error.message}`, error.place, error)
      : error;
  }
  await node.close();
}
