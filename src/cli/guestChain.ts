import type { ChainLink } from '../protocol/chain';
import { openChain } from '../engine/block/chain';
import type { Layer, OpenedChain } from '../engine/block/layer';
import { protocolOf } from '../engine/gate/filename';
import { followGate, type Follow } from '../engine/gate/policies';
import { requireOpenableLayer } from '../engine/info/opening';
import { FileSource } from '../engine/io/file';
import { acquireReaderLocks, type ReaderLock } from '../engine/io/readerLocks';
import { warn, type Context } from './commandLine';
import { CommandError } from './errors';
import type { ImageArgument } from './imageArguments';

/**
 * Opens a chain for reading what its guest reads: all of it, each image as strictly as QEMU does, locked as QEMU's readers lock. With
 * `--follow` it may end where it is not followed; a warning says so.
 * @throws EngineError, CommandError
 */
export async function openGuestChain(image: ImageArgument, follow: Follow, context: Context): Promise<OpenedChain> {
  if (image.format === 'luks') {
    throw new CommandError(`Could not open '${image.argument}': LUKS volumes are not decrypted by this version`);
  }
  const currentFolder = process.cwd();
  const chain = await openChain(protocolOf(image.fileName) === null ? image.fileName : `${currentFolder}/${image.fileName}`, {
    currentFolder,
    format: image.format === 'file' ? 'raw' : image.format,
    gate: followGate(follow),
  });
  try {
    for (const layer of chain.layers) {
      requireOpenableLayer(layer.detail);
      if (layer.detail.format === 'vmdk') {
        throw new CommandError(`Could not open '${layer.filename}': The data of VMDK images is not read by this version`);
      }
    }
    for (const link of chain.links) {
      requireFollowed(link, follow, context);
    }
    if (!image.forceShare) {
      acquireReaderLocks(chain.layers.flatMap(locksOf));
    }
    return chain;
  } catch (error) {
    chain.close();
    throw error;
  }
}

/** The name of the file that a layer's data lies in, as qemu-img shows it. */
export function dataFileName({ detail, filename }: Layer): string {
  return detail.format === 'qcow2' && detail.dataFile ? detail.dataFile.name : filename;
}

function requireFollowed({ recordedName, path, state }: ChainLink, follow: Follow, context: Context): void {
  const name = path ?? recordedName;
  switch (state.kind) {
    case 'open':
      return;
    case 'missing':
      throw new CommandError(`Could not open '${name}': No such file or directory`);
    case 'loop':
      throw new CommandError(`Backing file '${name}' creates an infinite loop.`);
    case 'unreadable':
      throw new CommandError(state.message);
    case 'refused':
      if (state.reason !== 'notFollowed') {
        throw new CommandError(`Could not open '${recordedName}': Its protocol cannot be read by this version`);
      }
      warn(context, `'${name}' was not followed (--follow ${follow})`);
  }
}

function locksOf({ source, detail }: Layer): ReaderLock[] {
  const locks: ReaderLock[] = [];
  if (source instanceof FileSource) {
    locks.push({ file: source, role: detail.format === 'raw' ? 'raw' : 'metadata' });
  }
  if (detail.format === 'qcow2' && detail.dataFile instanceof FileSource) {
    locks.push({ file: detail.dataFile, role: 'data-file' });
  }
  return locks;
}
