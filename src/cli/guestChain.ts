import type { ChainLink } from '../protocol/chain';
import { openChain } from '../engine/chain/openChain';
import { linkError } from '../engine/chain/complete';
import type { Layer, OpenedChain } from '../engine/chain/layer';
import { protocolOf } from '../engine/gate/filename';
import { readerLocks } from '../engine/block/graph/layerFiles';
import { usedExtents } from '../engine/formats/vmdk/metadata';
import { followGate, type Follow } from '../engine/gate/policies';
import { requireOpenableLayer } from '../engine/info/opening';
import { waiting } from '../engine/chain/follow';
import { acquireLocks } from '../engine/io/imageLocks';
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
  const chain = await openChain(fileNameFor(image), {
    currentFolder,
    format: image.format === 'file' ? 'raw' : image.format,
    gate: followGate(follow),
    open: WAITING,
    // Who else uses the files is found out when they are locked.
    locks: null,
  });
  try {
    for (const layer of chain.layers) {
      requireOpenableLayer(layer.detail);
    }
    for (const link of chain.links) {
      requireFollowed(link, follow, context);
    }
    if (!image.forceShare) {
      lockForReading(chain.layers);
    }
    return chain;
  } catch (error) {
    chain.close();
    throw error;
  }
}

/** A command has nothing else to do while a server answers. */
export const WAITING = waiting(Infinity);

/** The name to open: one that was given to the `file` driver is a file's, whatever protocol it looks like. */
export function fileNameFor({ fileName, remote }: ImageArgument): string {
  return remote || protocolOf(fileName) === null ? fileName : `${process.cwd()}/${fileName}`;
}

/** Locks the files of layers as QEMU's readers do. @throws EngineError `file.locked` */
export function lockForReading(layers: readonly Layer[]): void {
  acquireLocks(layers.flatMap(readerLocks));
}

/** The name of the file that a layer's data lies in at a guest offset, as qemu-img shows it. */
export function dataFileName({ detail, filename }: Layer, guestOffset: number): string {
  switch (detail.format) {
    case 'qcow2':
      return detail.dataFile?.name ?? filename;
    case 'vmdk': {
      // One for each extent of the disk, in its order.
      let start = 0;
      const index = usedExtents(detail.metadata).findIndex(({ length }) => guestOffset < (start += length));
      return detail.extents[index]?.name ?? filename;
    }
    case 'qed':
    case 'raw':
      return filename;
  }
}

/** Whether the chain goes on there. @throws EngineError when it should and does not */
function requireFollowed(link: ChainLink, follow: Follow, context: Context): void {
  const { recordedName, path, state } = link;
  if (state.kind === 'refused' && state.reason === 'notFollowed') {
    warn(context, `'${path ?? recordedName}' was not followed (--follow ${follow})`);
  } else if (state.kind !== 'open') {
    throw linkError(link);
  }
}
