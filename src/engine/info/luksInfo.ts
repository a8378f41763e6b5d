import { cipherKeyBytes, type LuksHeader } from '../formats/luks/header';

/** QAPI's QCryptoBlockInfoLUKS. Offsets are bytes from the start of the LUKS header. */
export interface LuksInfo {
  /** With the key's length in bits: `aes-256`. */
  readonly cipherAlg: string;
  readonly cipherMode: string;
  readonly ivgenAlg: string;
  readonly ivgenHashAlg?: string;
  readonly hashAlg: string;
  readonly uuid: string;
  readonly payloadOffset: number;
  readonly masterKeyIters: number;
  readonly slots: readonly LuksSlotInfo[];
}

/** QAPI's QCryptoBlockInfoLUKSSlot. */
export interface LuksSlotInfo {
  readonly active: boolean;
  /** Of an active slot only, as are `stripes`. */
  readonly iters?: number;
  readonly stripes?: number;
  readonly keyOffset: number;
}

/** What `qemu-img info` says of a LUKS header, be it a volume's or one inside qcow2. */
export function luksInfo(luks: LuksHeader): LuksInfo {
  return {
    cipherAlg: `${luks.cipherName}-${cipherKeyBytes(luks) * 8}`,
    cipherMode: luks.cipherMode,
    ivgenAlg: luks.ivGenerator,
    ...(luks.ivHash === null ? {} : { ivgenHashAlg: luks.ivHash }),
    hashAlg: luks.hash,
    uuid: luks.uuid,
    payloadOffset: luks.payloadOffset,
    masterKeyIters: luks.masterKeyIterations,
    slots: luks.slots.map(({ active, iterations, stripes, keyOffset }) => ({
      active,
      ...(active ? { iters: iterations, stripes } : {}),
      keyOffset,
    })),
  };
}
