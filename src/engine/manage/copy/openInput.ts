import type { LayerView } from '../../../protocol/place';
import { openChain } from '../../chain/openChain';
import { requireComplete } from '../../chain/complete';
import { readerLocks } from '../../block/graph/layerFiles';
import type { Layer } from '../../chain/layer';
import { unlockChain } from '../../chain/unlock';
import { EngineError } from '../../errors';
import { readSnapshotTable } from '../../formats/qcow2/snapshots';
import { requireOpenableLayer } from '../../info/opening';
import { acquireLocks } from '../../io/imageLocks';
import type { ManageContext, ManagedFile } from '../managedImage';
import type { CopyInput } from './copySource';

/** An image that is read as its guest reads it. */
export interface SourceFile extends ManagedFile {
  /** Neither takes locks nor heeds those of others. */
  readonly forceShare?: boolean | undefined;
  /** The passphrase of an encrypted image; the context's when left out. */
  readonly passphraseOf?: ManageContext['passphraseOf'];
}

/** Which internal snapshot is meant: one of that ID and name, or of that ID or else that name. */
export type SnapshotSelector = { readonly idOrName: string } | { readonly id: string | null; readonly name: string | null };

/**
 * Opens an image with all that it is built on for reading, locked as QEMU's readers do; the chain is the caller's to close.
 * @throws EngineError for what QEMU's drivers refuse; `file.locked`, `data.encrypted`, `data.passphrase`
 */
export async function openInput(file: SourceFile, snapshot: SnapshotSelector | null, context: ManageContext): Promise<CopyInput> {
  const { gate, currentFolder, signal } = context;
  const chain = await openChain(file.filename, { gate, currentFolder, format: file.format, signal, locks: null });
  try {
    requireComplete(chain);
    for (const layer of chain.layers) {
      requireOpenableLayer(layer.detail);
    }
    if (file.forceShare !== true) {
      acquireLocks(chain.layers.flatMap(readerLocks));
    }
    const ciphers = await unlockChain(chain, file.passphraseOf ?? context.passphraseOf ?? (() => null), signal);
    return { chain, ciphers, view: snapshot ? snapshotViewOf(chain.layers[0]!, snapshot) : undefined };
  } catch (error) {
    chain.close();
    throw error;
  }
}

/** @throws EngineError `request.invalid` when the image has no such snapshot */
export function snapshotViewOf({ detail }: Layer, selector: SnapshotSelector): LayerView {
  if (detail.format !== 'qcow2') {
    throw notLoaded(`Device '' does not support internal snapshots`);
  }
  const { snapshots } = readSnapshotTable(detail.metadata);
  const found =
    'idOrName' in selector
      ? (snapshots.find(({ id }) => id === selector.idOrName) ?? snapshots.find(({ name }) => name === selector.idOrName))
      : snapshots.find(({ id, name }) => id === (selector.id ?? id) && name === (selector.name ?? name));
  if (!found) {
    throw notLoaded("Can't find snapshot");
  }
  return { kind: 'snapshot', index: found.index };
}

function notLoaded(why: string): EngineError {
  return new EngineError('request.invalid', `Failed to load snapshot: ${why}`);
}
