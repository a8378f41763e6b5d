import { createCipheriv, createDecipheriv, createHash, type Cipheriv, type Decipheriv } from 'node:crypto';

import { EngineError } from '../../errors';
import { LUKS_SECTOR } from './structures';

export interface CipherSpecification {
  /** `aes`. */
  readonly cipherName: string;
  /** `xts` or `cbc`. */
  readonly cipherMode: string;
  /** `plain`, `plain64` or `essiv`. */
  readonly ivGenerator: string;
  /** Hash of `essiv`. */
  readonly ivHash: string | null;
}

const BLOCK = 16;
/** Bytes that are worked on at a time: the two calls into the crypto library are then nothing beside the work. */
const BATCH = 64 * 1024;

/**
 * Encrypts and decrypts sectors in place. The modes are made of the bare block cipher, many sectors in one call of the library, whose own
 * modes would need a new object for each sector.
 */
export interface SectorCipher {
  /** @param sector number of the first one; `bytes` may end inside a sector, at a multiple of 16 bytes */
  encrypt(bytes: Uint8Array, sector: number): void;
  decrypt(bytes: Uint8Array, sector: number): void;
}

/** @throws EngineError `format.unsupported` */
export function sectorCipher(specification: CipherSpecification, key: Uint8Array, file: string): SectorCipher {
  const { cipherName, cipherMode } = specification;
  if (cipherName !== 'aes' || !(cipherMode === 'xts' || cipherMode === 'cbc')) {
    throw new EngineError(
      'format.unsupported',
      `${file}: The cipher ${cipherName}-${cipherMode} is not supported; aes-xts and aes-cbc are.`,
      {
        file,
      },
    );
  }
  const vectors = vectorGenerator(specification, key, file);
  if (cipherMode === 'cbc') {
    return new CbcCipher(key, vectors);
  }
  const half = key.length / 2;
  return new XtsCipher(key.subarray(0, half), key.subarray(half), vectors);
}

/** Writes the initialisation vectors of `count` sectors one after the other. */
type VectorGenerator = (target: Uint8Array, sector: number, count: number) => void;

function vectorGenerator({ ivGenerator, ivHash }: CipherSpecification, key: Uint8Array, file: string): VectorGenerator {
  const numbers =
    (wide: boolean): VectorGenerator =>
    (target, sector, count) => {
      const view = new DataView(target.buffer, target.byteOffset, count * BLOCK);
      target.fill(0, 0, count * BLOCK);
      for (let index = 0; index < count; index++) {
        const number = sector + index;
        view.setUint32(index * BLOCK, number % 2 ** 32, true);
        if (wide) {
          view.setUint32(index * BLOCK + 4, Math.floor(number / 2 ** 32), true);
        }
      }
    };
  if (ivGenerator !== 'essiv') {
    return numbers(ivGenerator === 'plain64');
  }
  const salt = createHash(ivHash ?? '')
    .update(key)
    .digest();
  if (![16, 24, 32].includes(salt.length)) {
    throw new EngineError('format.unsupported', `${file}: No AES cipher with key size ${salt.length} available`, { file });
  }
  const encryption = bareEncryption(salt);
  const plain = numbers(true);
  return (target, sector, count) => {
    plain(target, sector, count);
    target.set(encryption.update(target.subarray(0, count * BLOCK)));
  };
}

function bareEncryption(key: Uint8Array): Cipheriv {
  return createCipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
}

function bareDecryption(key: Uint8Array): Decipheriv {
  return createDecipheriv(`aes-${key.length * 8}-ecb`, key, null).setAutoPadding(false);
}

/** IEEE P1619: each block is masked before and after, with a mask that doubles in GF(2^128) from block to block. */
class XtsCipher implements SectorCipher {
  private readonly encryption: Cipheriv;
  private readonly decryption: Decipheriv;
  private readonly masking: Cipheriv;
  private readonly vectors: VectorGenerator;
  private readonly work = new Uint8Array(BATCH);
  private readonly words = new Uint32Array(this.work.buffer);
  private readonly masks = new Uint32Array(BATCH / 4);
  private readonly starts = new Uint8Array((BATCH / LUKS_SECTOR) * BLOCK);

  constructor(dataKey: Uint8Array, maskKey: Uint8Array, vectors: VectorGenerator) {
    this.encryption = bareEncryption(dataKey);
    this.decryption = bareDecryption(dataKey);
    this.masking = bareEncryption(maskKey);
    this.vectors = vectors;
  }

  encrypt(bytes: Uint8Array, sector: number): void {
    this.run(this.encryption, bytes, sector);
  }

  decrypt(bytes: Uint8Array, sector: number): void {
    this.run(this.decryption, bytes, sector);
  }

  private run(block: Cipheriv | Decipheriv, bytes: Uint8Array, sector: number): void {
    for (let done = 0; done < bytes.length; done += BATCH) {
      const part = bytes.subarray(done, done + BATCH);
      this.makeMasks(sector + done / LUKS_SECTOR, part.length);
      this.work.set(part);
      this.mask(part.length);
      this.work.set(block.update(this.work.subarray(0, part.length)));
      this.mask(part.length);
      part.set(this.work.subarray(0, part.length));
    }
  }

  private makeMasks(sector: number, length: number): void {
    const sectors = Math.ceil(length / LUKS_SECTOR);
    this.vectors(this.starts, sector, sectors);
    const first = this.masking.update(this.starts.subarray(0, sectors * BLOCK));
    const { masks } = this;
    const wordsPerSector = LUKS_SECTOR / 4;
    for (let index = 0; index < sectors; index++) {
      let a = first.readInt32LE(index * BLOCK);
      let b = first.readInt32LE(index * BLOCK + 4);
      let c = first.readInt32LE(index * BLOCK + 8);
      let d = first.readInt32LE(index * BLOCK + 12);
      const start = index * wordsPerSector;
      for (let at = start; at < start + wordsPerSector; at += 4) {
        masks[at] = a;
        masks[at + 1] = b;
        masks[at + 2] = c;
        masks[at + 3] = d;
        const carry = d >>> 31;
        d = (d << 1) | (c >>> 31);
        c = (c << 1) | (b >>> 31);
        b = (b << 1) | (a >>> 31);
        a = (a << 1) ^ (carry * 0x87);
      }
    }
  }

  private mask(length: number): void {
    const { words, masks } = this;
    for (let index = 0; index < length / 4; index++) {
      words[index]! ^= masks[index]!;
    }
  }
}

class CbcCipher implements SectorCipher {
  private readonly chain: Cipheriv;
  private readonly decryption: Decipheriv;
  private readonly vectors: VectorGenerator;
  private readonly vector = new Uint8Array(BLOCK);
  private readonly starts = new Uint8Array((BATCH / LUKS_SECTOR) * BLOCK);
  /** The chain's last block: what the library will mix into the next one. */
  private last = new Uint8Array(BLOCK);

  constructor(key: Uint8Array, vectors: VectorGenerator) {
    this.chain = createCipheriv(`aes-${key.length * 8}-cbc`, key, this.last).setAutoPadding(false);
    this.decryption = bareDecryption(key);
    this.vectors = vectors;
  }

  encrypt(bytes: Uint8Array, sector: number): void {
    for (let done = 0; done < bytes.length; done += LUKS_SECTOR) {
      const part = bytes.subarray(done, done + LUKS_SECTOR);
      this.vectors(this.vector, sector + done / LUKS_SECTOR, 1);
      for (let at = 0; at < BLOCK; at++) {
        // One chain serves all sectors: what it adds of the sector before is taken out again.
        part[at]! ^= this.vector[at]! ^ this.last[at]!;
      }
      part.set(this.chain.update(part));
      this.last = part.slice(-BLOCK);
    }
  }

  decrypt(bytes: Uint8Array, sector: number): void {
    for (let done = 0; done < bytes.length; done += BATCH) {
      const part = bytes.subarray(done, done + BATCH);
      this.vectors(this.starts, sector + done / LUKS_SECTOR, Math.ceil(part.length / LUKS_SECTOR));
      const plain = this.decryption.update(part);
      for (let at = 0; at < plain.length; at++) {
        const within = at % LUKS_SECTOR;
        plain[at]! ^= within < BLOCK ? this.starts[((at - within) / LUKS_SECTOR) * BLOCK + within]! : part[at - BLOCK]!;
      }
      part.set(plain);
    }
  }
}
