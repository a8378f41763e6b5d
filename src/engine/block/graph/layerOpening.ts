import type { LayerView } from '../../../protocol/place';
import { invalidFormat, readOnlyImage } from '../../errors';
import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import { openCipher } from '../../formats/qcow2/crypto/open';
import { remoteNameOf } from '../../gate/remoteName';
import { fileKey, FileSource } from '../../io/file';
import { FileStorage } from '../../io/fileStorage';
import type { ImageLock } from '../../io/imageLocks';
import { openRemote } from '../../io/remote/openRemote';
import type { ByteSource } from '../../io/source';
import type { Storage } from '../../io/storage';
import { backingReference, readDetail, virtualSizeOf } from '../../chain/detail';
import type { Layer } from '../../chain/layer';
import { filesOf, readerLocks, writerRole } from './layerFiles';

/** Equal for two names of one file, and different for what is seen of it. */
export function keyOf({ source, filename }: Layer, view: LayerView): string {
  const file = source instanceof FileSource ? fileKey(source.identity) : filename;
  return view.kind === 'snapshot' ? `${file}@${view.index}` : file;
}

/** The cipher of an encrypted image; null for another. @throws EngineError `data.passphrase`, `cancelled` */
export async function cipherOf(
  layer: Layer,
  passphraseOf: ((layer: Layer) => Uint8Array | null) | undefined,
  signal: AbortSignal | undefined,
): Promise<ClusterCipher | null> {
  const { detail } = layer;
  return detail.format === 'qcow2' ? openCipher(detail.metadata, passphraseOf?.(layer) ?? null, signal) : null;
}

export interface OpenedForWriting {
  readonly storages: readonly Storage[];
  readonly locks: readonly ImageLock[];
}

/** Opens the files of an image anew, to write them, and locks them. */
export async function openForWriting(
  layer: Layer,
  lock: (wanted: readonly ImageLock[]) => void,
  durable = true,
): Promise<OpenedForWriting> {
  const storages: Storage[] = [];
  try {
    for (const file of filesOf(layer)) {
      storages.push(file instanceof FileSource ? FileStorage.reopen(file, { writable: true, durable }) : await openExport(layer, file));
    }
    const locks = readerLocks(withFiles(layer, storages)).map(({ file, role }) => ({ file, role: writerRole(role) }));
    lock(locks);
    return { storages, locks };
  } catch (error) {
    storages.forEach((storage) => storage.close());
    throw error;
  }
}

/** The image's own file on a server, to write it. @throws EngineError `request.readOnly` for what is only read, `network.failed` */
async function openExport({ filename, source }: Layer, file: ByteSource): Promise<Storage> {
  const remote = file === source ? remoteNameOf(filename) : null;
  if (!remote) {
    throw readOnlyImage(file.name);
  }
  return openRemote(remote, { writable: true });
}

/** The files of an image again, opened anew. */
export function withFiles(layer: Layer, [source, ...others]: readonly ByteSource[]): Layer {
  const { detail } = layer;
  return { ...layer, source: source!, detail: detail.format === 'qcow2' ? { ...detail, dataFile: others[0] ?? null } : detail };
}

/**
 * What the files say of the image now.
 * @throws EngineError `format.invalid` when it is built on something else than before
 */
export function reread(layer: Layer): Layer {
  const now = readAgain(layer);
  const { source, detail } = layer;
  if (JSON.stringify(backingReference(now.detail)) !== JSON.stringify(backingReference(detail))) {
    throw invalidFormat(source.name, 'header', 0, 'Another program gave the image another backing file while it was opened.');
  }
  return now;
}

/** What the files say of the image now, whatever it is built on. */
export function readAgain(layer: Layer): Layer {
  const { source, detail } = layer;
  if (source instanceof FileSource) {
    source.refresh();
  }
  const now = readDetail(source, detail.format);
  return {
    ...layer,
    virtualSize: virtualSizeOf(source, now),
    detail:
      now.format === 'qcow2' && detail.format === 'qcow2'
        ? { ...now, dataFile: detail.dataFile }
        : now.format === 'vmdk' && detail.format === 'vmdk'
          ? { ...now, extents: detail.extents }
          : now,
  };
}
