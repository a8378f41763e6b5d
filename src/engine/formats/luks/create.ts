import { pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto';

import { invalidRequest } from '../../errors';
import { encode } from '../../layout/codec';
import { derive, DIGEST_BYTES, sealSlot } from './keys';
import { sectorCipher, type SectorCipher } from './sectorCipher';
import { LUKS_HEADER, LUKS_KEY_SLOT, LUKS_KEY_SLOTS, LUKS_MAGIC, LUKS_SECTOR, LUKS_SLOT } from './structures';

/** QEMU's create options of LUKS, by their names. */
export interface LuksCreateOptions {
  /** `aes-128`, `aes-192` or `aes-256` (when left out). */
  readonly 'cipher-alg'?: string | undefined;
  /** `xts` (when left out) or `cbc`. */
  readonly 'cipher-mode'?: string | undefined;
  /** `plain64` (when left out), `plain` or `essiv`. */
  readonly 'ivgen-alg'?: string | undefined;
  /** Hash of `essiv`; `sha256` when left out. */
  readonly 'ivgen-hash-alg'?: string | undefined;
  /** `sha256` when left out. */
  readonly 'hash-alg'?: string | undefined;
  /** Milliseconds that deriving a key from the passphrase shall take on this machine; 2000 when left out. */
  readonly 'iter-time'?: number | undefined;
}

export interface CreatedLuks {
  /** Header and key material: all that lies before the payload. */
  readonly bytes: Uint8Array;
  readonly cipher: SectorCipher;
}

export const STRIPES = 4000;
/** Key material begins at, and is aligned to, this many bytes. */
const MATERIAL_ALIGNMENT = 4096;
const LEAST_ITERATIONS = 1000;
export const DEFAULT_ITER_TIME = 2000;

const KEY_BYTES: Readonly<Record<string, number>> = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 };
const MODES = ['xts', 'cbc'];
const GENERATORS = ['plain', 'plain64', 'essiv'];
const HASHES = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'ripemd160'];

/** Length of the header and the key material of such a volume in bytes. @throws EngineError `request.invalid` */
export function luksHeaderBytes(options: LuksCreateOptions): number {
  return MATERIAL_ALIGNMENT + LUKS_KEY_SLOTS * slotBytes(settings(options).keyBytes);
}

/**
 * Makes a LUKS1 header with a new master key and one key slot for the passphrase.
 * @throws EngineError `request.invalid` for options that are not supported
 */
export async function createLuks(options: LuksCreateOptions, passphrase: Uint8Array, file: string): Promise<CreatedLuks> {
  const { keyBytes, specification, hash } = settings(options);
  const masterKey = randomBytes(keyBytes);
  const cipher = sectorCipher(specification, masterKey, file);
  const perSecond = iterationsPerSecond(hash);
  const iterations = Math.min(2 ** 31 - 1, Math.round((perSecond * (options['iter-time'] ?? DEFAULT_ITER_TIME)) / 1000));
  const slotIterations = Math.max(LEAST_ITERATIONS, iterations);
  // The checksum of the master key guards no passphrase and may be cheaper.
  const digestIterations = Math.max(LEAST_ITERATIONS, Math.round(iterations / 8));
  const digestSalt = randomBytes(32);
  const digest = await derive(masterKey, digestSalt, digestIterations, DIGEST_BYTES, hash, file);
  const { salt, material } = await sealSlot({ ...specification, hash }, masterKey, passphrase, slotIterations, STRIPES, file);
  const encoder = new TextEncoder();
  const bytes = new Uint8Array(luksHeaderBytes(options));
  const { ivGenerator, ivHash, cipherMode, cipherName } = specification;
  bytes.set(
    encode(LUKS_HEADER, {
      magic: Uint8Array.from(LUKS_MAGIC),
      version: 1,
      'cipher-name': encoder.encode(cipherName),
      'cipher-mode': encoder.encode(`${cipherMode}-${ivGenerator}${ivHash === null ? '' : `:${ivHash}`}`),
      'hash-spec': encoder.encode(hash),
      'payload-offset': bytes.length / LUKS_SECTOR,
      'key-bytes': keyBytes,
      'mk-digest': digest,
      'mk-digest-salt': digestSalt,
      'mk-digest-iter': digestIterations,
      uuid: encoder.encode(randomUUID()),
    }),
  );
  for (let slot = 0; slot < LUKS_KEY_SLOTS; slot++) {
    const keyOffset = MATERIAL_ALIGNMENT + slot * slotBytes(keyBytes);
    const first = slot === 0;
    bytes.set(
      encode(LUKS_KEY_SLOT, {
        active: first ? LUKS_SLOT.enabled : LUKS_SLOT.disabled,
        iterations: first ? slotIterations : 0,
        salt: first ? salt : new Uint8Array(32),
        'key-material-offset': keyOffset / LUKS_SECTOR,
        stripes: STRIPES,
      }),
      LUKS_HEADER.length + slot * LUKS_KEY_SLOT.length,
    );
    if (first) {
      bytes.set(material, keyOffset);
    }
  }
  return { bytes, cipher };
}

/** How many rounds of the key derivation this machine makes in a second. */
export function iterationsPerSecond(hash: string): number {
  const secret = randomBytes(32);
  for (let rounds = 1 << 14; ; rounds *= 4) {
    const start = process.hrtime.bigint();
    pbkdf2Sync(secret, secret, rounds, DIGEST_BYTES, hash);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    if (seconds > 0.05 || rounds >= 1 << 24) {
      return rounds / Math.max(seconds, 1e-6);
    }
  }
}

function slotBytes(keyBytes: number): number {
  return Math.ceil((keyBytes * STRIPES) / MATERIAL_ALIGNMENT) * MATERIAL_ALIGNMENT;
}

function settings(options: LuksCreateOptions) {
  const one = (name: keyof LuksCreateOptions, value: string, known: readonly string[]) => {
    if (!known.includes(value)) {
      throw invalidRequest(`Parameter '${name}' does not accept value '${value}'`);
    }
    return value;
  };
  const algorithm = one('cipher-alg', options['cipher-alg'] ?? 'aes-256', Object.keys(KEY_BYTES));
  const cipherMode = one('cipher-mode', options['cipher-mode'] ?? 'xts', MODES);
  const ivGenerator = one('ivgen-alg', options['ivgen-alg'] ?? 'plain64', GENERATORS);
  const ivHash = one('ivgen-hash-alg', options['ivgen-hash-alg'] ?? 'sha256', HASHES);
  const hash = one('hash-alg', options['hash-alg'] ?? 'sha256', HASHES);
  const cipherKey = KEY_BYTES[algorithm] ?? 0;
  const keyBytes = cipherMode === 'xts' ? cipherKey * 2 : cipherKey;
  if ((keyBytes * STRIPES) % LUKS_SECTOR !== 0) {
    // QEMU ends itself on key material that is not whole sectors.
    throw invalidRequest(`The cipher ${algorithm} cannot be used in the mode ${cipherMode}`);
  }
  return {
    keyBytes,
    hash,
    specification: { cipherName: 'aes', cipherMode, ivGenerator, ivHash: ivGenerator === 'essiv' ? ivHash : null },
  };
}
