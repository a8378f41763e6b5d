import { EngineError } from '../../../errors';
import { Decoded } from '../../../layout/codec';
import { readLuksHeader } from '../../luks/header';
import { luksCipher, unlockLuks } from '../../luks/keys';
import { sectorCipher, type SectorCipher } from '../../luks/sectorCipher';
import { LUKS_SECTOR } from '../../luks/structures';
import type { Qcow2Metadata } from '../metadata';
import { ENCRYPTION_EXTENSION, EXTENSION } from '../structures';
import type { ClusterCipher } from './clusterCipher';

/** Numbers of the header's crypt_method. */
export const CRYPT_METHOD = { none: 0, aes: 1, luks: 2 } as const;

/**
 * The cipher of an image's guest data; null when it is not encrypted.
 * @param passphrase null when none was given
 * @throws EngineError `data.encrypted` without a passphrase, `data.passphrase` for a wrong one, `format.invalid`, `format.unsupported`
 */
export async function openCipher(
  metadata: Qcow2Metadata,
  passphrase: Uint8Array | null,
  signal?: AbortSignal,
): Promise<ClusterCipher | null> {
  const file = metadata.source.name;
  switch (metadata.cryptMethod) {
    case CRYPT_METHOD.none:
      return null;
    case CRYPT_METHOD.aes:
      return legacyCipher(requirePassphrase(passphrase, file), file);
    case CRYPT_METHOD.luks: {
      const luks = readLuksHeader(metadata.source, luksHeaderOffset(metadata));
      const { masterKey } = await unlockLuks(luks, requirePassphrase(passphrase, file), signal);
      return luksClusterCipher(luksCipher(luks, masterKey, file));
    }
    default:
      throw new EngineError('format.unsupported', `${file}: Encryption method ${metadata.cryptMethod} is unknown.`, { file });
  }
}

/** Whether two readings of an image are encrypted with the same key; never so for one that cannot be opened. */
export function isSameKey(one: Qcow2Metadata, other: Qcow2Metadata): boolean {
  if (one.cryptMethod !== other.cryptMethod) {
    return false;
  }
  if (one.cryptMethod !== CRYPT_METHOD.luks) {
    // The passphrase itself is the key.
    return one.cryptMethod === CRYPT_METHOD.aes;
  }
  try {
    const [a, b] = [one, other].map((metadata) => readLuksHeader(metadata.source, luksHeaderOffset(metadata)).header);
    return a !== undefined && b !== undefined && Buffer.compare(a.raw('mk-digest'), b.raw('mk-digest')) === 0;
  } catch (error) {
    if (error instanceof EngineError) {
      return false;
    }
    throw error;
  }
}

/** Byte offset in the file of the image's LUKS header. @throws EngineError `format.invalid` */
export function luksHeaderOffset(metadata: Qcow2Metadata): number {
  const file = metadata.source.name;
  const found = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
  const extension = found ? new Decoded(ENCRYPTION_EXTENSION, found.data) : null;
  const offset = extension?.number('offset') ?? Infinity;
  if (!(offset > 0 && offset < metadata.source.size && offset % metadata.clusterSize === 0)) {
    throw new EngineError(
      'format.invalid',
      `${file}: The image is encrypted with LUKS, and its header does not say where the LUKS header lies.`,
      {
        file,
        structure: ENCRYPTION_EXTENSION.title,
        hostOffset: found?.hostOffset,
      },
    );
  }
  return offset;
}

export function luksClusterCipher(cipher: SectorCipher): ClusterCipher {
  return {
    addressedBy: 'hostOffset',
    writable: true,
    decrypt: (bytes, offset) => {
      cipher.decrypt(bytes, offset / LUKS_SECTOR);
    },
    encrypt: (bytes, offset) => {
      cipher.encrypt(bytes, offset / LUKS_SECTOR);
    },
  };
}

/** Before LUKS the passphrase itself was the key; nothing tells whether it is the right one. */
function legacyCipher(passphrase: Uint8Array, file: string): ClusterCipher {
  const key = new Uint8Array(16);
  key.set(passphrase.subarray(0, key.length));
  const cipher = sectorCipher({ cipherName: 'aes', cipherMode: 'cbc', ivGenerator: 'plain64', ivHash: null }, key, file);
  return {
    addressedBy: 'guestOffset',
    writable: false,
    decrypt: (bytes, offset) => {
      cipher.decrypt(bytes, offset / LUKS_SECTOR);
    },
    encrypt: () => {
      throw new EngineError('request.unsupported', `${file}: Images with the old AES encryption are not written.`, {
        file,
        remedy: 'Convert the image to one with LUKS.',
      });
    },
  };
}

function requirePassphrase(passphrase: Uint8Array | null, file: string): Uint8Array {
  if (!passphrase) {
    throw new EngineError('data.encrypted', `${file}: Parameter 'encrypt.key-secret' is required for cipher`, {
      file,
      remedy: 'Give the passphrase.',
    });
  }
  return passphrase;
}
