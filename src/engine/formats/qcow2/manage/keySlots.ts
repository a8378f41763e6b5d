import { randomBytes } from 'node:crypto';

import { invalidRequest } from '../../../errors';
import { encode } from '../../../layout/codec';
import { DEFAULT_ITER_TIME, iterationsPerSecond, STRIPES } from '../../luks/create';
import { readLuksHeader, type LuksHeader, type LuksKeySlot } from '../../luks/header';
import { openSlot, sealSlot, unlockLuks } from '../../luks/keys';
import { LUKS_KEY_SLOT, LUKS_SECTOR, LUKS_SLOT } from '../../luks/structures';
import { luksHeaderOffset } from '../crypto/open';
import type { QuietImage } from './quietImage';

/** QEMU's amend options of LUKS, by their names. */
export interface KeySlotChange {
  /** `active`: a key slot for `newSecret`; `inactive`: key slots are erased. */
  readonly state: string;
  readonly newSecret?: Uint8Array | undefined;
  /** Which slots to erase: those that it opens. */
  readonly oldSecret?: Uint8Array | undefined;
  /** Which slot, from 0 on. */
  readonly keyslot?: number | undefined;
  /** Milliseconds. */
  readonly iterTime?: number | undefined;
  /** Also where a passphrase, or all data, is lost. */
  readonly force?: boolean | undefined;
}

const LEAST_ITERATIONS = 1000;
/** What was erased is written over so often. */
const ERASE_PASSES = 40;

/**
 * Gives the image another passphrase, or takes passphrases away.
 * @param passphrase opens the image as it is
 * @throws EngineError `request.invalid` in QEMU's words, `data.passphrase`
 */
export async function amendKeySlots(
  image: QuietImage,
  change: KeySlotChange,
  passphrase: Uint8Array | null,
  signal?: AbortSignal,
): Promise<void> {
  const luks = readLuksHeader(image.storage, luksHeaderOffset(image.metadata));
  if (change.keyslot !== undefined && !luks.slots[change.keyslot]) {
    throw invalidRequest(`Invalid keyslot ${change.keyslot} specified, must be between 0 and ${luks.slots.length - 1}`);
  }
  switch (change.state) {
    case 'active':
      return addKey(image, luks, change, passphrase, signal);
    case 'inactive':
      return eraseKeys(image, luks, change, signal);
    default:
      throw invalidRequest(`Parameter 'state' does not accept value '${change.state}'`);
  }
}

async function addKey(
  image: QuietImage,
  luks: LuksHeader,
  { newSecret, oldSecret, keyslot, iterTime = DEFAULT_ITER_TIME, force = false }: KeySlotChange,
  passphrase: Uint8Array | null,
  signal?: AbortSignal,
): Promise<void> {
  if (!newSecret) {
    throw invalidRequest("'new-secret' is required to activate a keyslot");
  }
  if (oldSecret) {
    throw invalidRequest("'old-secret' must not be given when activating keyslots");
  }
  if (!passphrase) {
    throw invalidRequest("Parameter 'encrypt.key-secret' is required for cipher");
  }
  const slot = keyslot === undefined ? luks.slots.find(({ active }) => !active) : luks.slots[keyslot];
  if (!slot) {
    throw invalidRequest("Can't add a keyslot - all keyslots are in use");
  }
  if (slot.active && !force) {
    throw invalidRequest(`Refusing to overwrite active keyslot ${slot.index} - please erase it first`);
  }
  const { masterKey } = await unlockLuks(luks, passphrase, signal);
  const iterations = Math.min(2 ** 31 - 1, Math.max(LEAST_ITERATIONS, Math.round((iterationsPerSecond(luks.hash) * iterTime) / 1000)));
  const { salt, material } = await sealSlot(luks, masterKey, newSecret, iterations, STRIPES, image.storage.name);
  await image.storage.write(material, luks.hostOffset + slot.keyOffset);
  // The slot is active when its key is there.
  await image.storage.flush();
  await writeSlot(image, slot, { active: LUKS_SLOT.enabled, iterations, salt });
}

async function eraseKeys(
  image: QuietImage,
  luks: LuksHeader,
  { newSecret, oldSecret, keyslot, iterTime, force = false }: KeySlotChange,
  signal?: AbortSignal,
): Promise<void> {
  if (newSecret) {
    throw invalidRequest("'new-secret' must not be given when erasing keyslots");
  }
  if (iterTime !== undefined) {
    throw invalidRequest("'iter-time' must not be given when erasing keyslots");
  }
  if (!oldSecret && keyslot === undefined) {
    throw invalidRequest('To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given');
  }
  const one = keyslot === undefined ? null : luks.slots[keyslot];
  if (one && !one.active) {
    throw invalidRequest(`Given keyslot ${one.index} is already erased (inactive) `);
  }
  const erased: LuksKeySlot[] = [];
  for (const slot of one ? [one] : luks.slots) {
    if (slot.active && (!oldSecret || (await openSlot(luks, slot, oldSecret, signal)))) {
      erased.push(slot);
    }
  }
  if (erased.length === 0) {
    throw invalidRequest(
      one
        ? `Given keyslot ${one.index} doesn't contain the given old password for erase operation`
        : 'No keyslots match given (old) password for erase operation',
    );
  }
  if (!force && luks.slots.every((slot) => !slot.active || erased.includes(slot))) {
    throw invalidRequest(
      `${
        one
          ? `Attempt to erase the only active keyslot ${one.index} which will erase`
          : 'All the active keyslots match the (old) password that was given and erasing them will erase'
      } all the data in the image irreversibly - refusing operation`,
    );
  }
  const length = luks.keyBytes * STRIPES;
  for (const slot of erased) {
    await writeSlot(image, slot, { active: LUKS_SLOT.disabled, iterations: 0, salt: new Uint8Array(32) });
    for (let pass = 0; pass < ERASE_PASSES; pass++) {
      await image.storage.write(randomBytes(length), luks.hostOffset + slot.keyOffset);
      await image.storage.flush();
    }
  }
}

async function writeSlot(
  image: QuietImage,
  slot: LuksKeySlot,
  { active, iterations, salt }: { readonly active: number; readonly iterations: number; readonly salt: Uint8Array },
): Promise<void> {
  const bytes = encode(LUKS_KEY_SLOT, {
    active,
    iterations,
    salt,
    'key-material-offset': slot.keyOffset / LUKS_SECTOR,
    stripes: STRIPES,
  });
  await image.storage.write(bytes, slot.hostOffset);
  await image.storage.flush();
}
