import { pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';

import { cancelled, EngineError } from '../../errors';
import { readPadded } from '../../io/source';
import { mergeKey, splitKey } from './antiForensic';
import { requireOpenableLuks, type LuksHeader, type LuksKeySlot } from './header';
import { sectorCipher, type CipherSpecification, type SectorCipher } from './sectorCipher';

/** Length of the checksum that tells the right master key, in bytes. */
export const DIGEST_BYTES = 20;
/** The derivation's cost is a 31-bit number for the library. */
const MOST_ITERATIONS = 2 ** 31 - 1;

export interface UnlockedLuks {
  readonly masterKey: Uint8Array;
  /** Number of the key slot that the passphrase opens. */
  readonly slot: number;
}

/**
 * Finds the key slot that the passphrase opens; takes as long as the one who made the slot wanted it to.
 * @throws EngineError `data.passphrase` when it opens none, `format.unsupported`, `format.invalid`, `cancelled`
 */
export async function unlockLuks(luks: LuksHeader, passphrase: Uint8Array, signal?: AbortSignal): Promise<UnlockedLuks> {
  requireOpenableLuks(luks);
  requireAes(luks);
  for (const slot of luks.slots) {
    if (slot.active) {
      const masterKey = await openSlot(luks, slot, passphrase, signal);
      if (masterKey) {
        return { masterKey, slot: slot.index };
      }
    }
  }
  throw wrongPassphrase(luks.source.name);
}

export function wrongPassphrase(file: string): EngineError {
  return new EngineError('data.passphrase', `${file}: Invalid password, cannot unlock any keyslot`, {
    file,
    remedy: 'Give the passphrase that the image was made with.',
  });
}

/** @throws EngineError `format.unsupported` */
export function luksCipher(luks: CipherSpecification, masterKey: Uint8Array, file: string): SectorCipher {
  return sectorCipher(luks, masterKey, file);
}

/** The master key, when the passphrase is that of the slot. */
export async function openSlot(
  luks: LuksHeader,
  slot: LuksKeySlot,
  passphrase: Uint8Array,
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  const { keyBytes, hash, source } = luks;
  const slotKey = await derive(passphrase, slot.fields.raw('salt'), slot.iterations, keyBytes, hash, source.name, signal);
  const split = readPadded(source, luks.hostOffset + slot.keyOffset, keyBytes * slot.stripes);
  sectorCipher(luks, slotKey, source.name).decrypt(split, 0);
  const candidate = mergeKey(split, keyBytes, slot.stripes, hash);
  const { header, masterKeyIterations } = luks;
  const digest = await derive(candidate, header.raw('mk-digest-salt'), masterKeyIterations, DIGEST_BYTES, hash, source.name, signal);
  return timingSafeEqual(digest, header.raw('mk-digest')) ? candidate : null;
}

/** What a key slot holds for a passphrase: the spread master key under a key that takes `iterations` rounds to derive. */
export async function sealSlot(
  specification: CipherSpecification & { readonly hash: string },
  masterKey: Uint8Array,
  passphrase: Uint8Array,
  iterations: number,
  stripes: number,
  file: string,
): Promise<{ readonly salt: Uint8Array; readonly material: Uint8Array }> {
  const salt = randomBytes(32);
  const slotKey = await derive(passphrase, salt, iterations, masterKey.length, specification.hash, file);
  const material = splitKey(masterKey, stripes, specification.hash);
  sectorCipher(specification, slotKey, file).encrypt(material, 0);
  return { salt, material };
}

/** PBKDF2, off the thread. @throws EngineError `format.unsupported`, `cancelled` */
export async function derive(
  secret: Uint8Array,
  salt: Uint8Array,
  iterations: number,
  length: number,
  hash: string,
  file: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  if (!(iterations >= 1 && iterations <= MOST_ITERATIONS)) {
    throw new EngineError('format.unsupported', `${file}: LUKS header: ${iterations} iterations of the key derivation are out of range.`, {
      file,
      structure: 'LUKS header',
    });
  }
  if (signal?.aborted) {
    throw cancelled();
  }
  return new Promise((resolve, reject) => {
    const stop = () => {
      // The library cannot be stopped; nobody waits for it any more.
      reject(cancelled());
    };
    signal?.addEventListener('abort', stop, { once: true });
    pbkdf2(secret, salt, iterations, length, hash, (error, key) => {
      signal?.removeEventListener('abort', stop);
      if (error) {
        reject(new EngineError('format.unsupported', `${file}: The hash '${hash}' is not supported here.`, { file }, error));
      } else {
        resolve(key);
      }
    });
  });
}

function requireAes({ cipherName, source }: LuksHeader): void {
  if (cipherName !== 'aes') {
    throw new EngineError('format.unsupported', `${source.name}: The cipher '${cipherName}' is not supported; aes is.`, {
      file: source.name,
    });
  }
}
