import { invalidFormat, unsupported } from '../../errors';
import { Decoded } from '../../layout/codec';
import { readAvailable, type ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import { LUKS_HEADER, LUKS_KEY_SLOT, LUKS_KEY_SLOTS, LUKS_MAGIC, LUKS_SECTOR, LUKS_SLOT } from './structures';

export interface LuksKeySlot {
  readonly index: number;
  /** Byte offset in the file of its entry in the header. */
  readonly hostOffset: number;
  readonly fields: Decoded<(typeof LUKS_KEY_SLOT.fields)[number]['name']>;
  readonly active: boolean;
  readonly iterations: number;
  /** Bytes from the start of the LUKS header. */
  readonly keyOffset: number;
  readonly stripes: number;
}

/** A LUKS1 header, read leniently: what is wrong stands in `problems`. */
export interface LuksHeader {
  readonly source: ByteSource;
  /** Byte offset in the file of the header: 0 in a LUKS volume, the extension's offset in qcow2. */
  readonly hostOffset: number;
  readonly header: Decoded<(typeof LUKS_HEADER.fields)[number]['name']>;
  readonly version: number;
  /** As the header says: `aes`, `serpent`, ... */
  readonly cipherName: string;
  /** Chaining mode: `xts`, `cbc`, ... */
  readonly cipherMode: string;
  /** How the initialisation vector is made: `plain64`, `essiv`, ... */
  readonly ivGenerator: string;
  /** Hash of the generator, where it needs one (`essiv:sha256`). */
  readonly ivHash: string | null;
  readonly hash: string;
  /** Length of the master key in bytes. */
  readonly keyBytes: number;
  /** Bytes from the start of the header. */
  readonly payloadOffset: number;
  readonly masterKeyIterations: number;
  readonly uuid: string;
  readonly slots: readonly LuksKeySlot[];
  readonly problems: readonly Problem[];
}

/** What every LUKS1 writer uses; a slot with another number cannot be opened by QEMU. */
const STRIPES = 4000;

/** Key lengths in bytes that QEMU has each cipher with. */
const CIPHERS: Readonly<Record<string, readonly number[]>> = {
  aes: [16, 24, 32],
  cast5: [16],
  serpent: [16, 24, 32],
  twofish: [16, 24, 32],
};
const MODES = ['ecb', 'cbc', 'xts', 'ctr'];
const IV_GENERATORS = ['plain', 'plain64', 'essiv'];
const HASHES = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'ripemd160'];

/** Reads a LUKS1 header. Never throws on content; I/O errors pass through. */
export function readLuksHeader(source: ByteSource, hostOffset: number): LuksHeader {
  const header: LuksHeader['header'] = new Decoded(LUKS_HEADER, readAvailable(source, hostOffset, LUKS_HEADER.length));
  const problems: Problem[] = [];
  const report = (field: (typeof LUKS_HEADER.fields)[number]['name'], message: string) => {
    problems.push({
      severity: 'error',
      structure: LUKS_HEADER.title,
      field,
      hostOffset: hostOffset + header.field(field).offset,
      message,
    });
  };
  const text = (field: 'cipher-name' | 'cipher-mode' | 'hash-spec' | 'uuid') => {
    const bytes = header.raw(field);
    const end = bytes.indexOf(0);
    if (end < 0) {
      report(field, `${field} is not terminated.`);
    }
    return new TextDecoder('utf-8').decode(end < 0 ? bytes : bytes.subarray(0, end));
  };
  const slotsOffset = hostOffset + LUKS_HEADER.length;
  if (!isLuks(header.bytes)) {
    report('magic', 'No LUKS magic stands here.');
  }
  if (!header.has('uuid') || source.size < slotsOffset + LUKS_KEY_SLOTS * LUKS_KEY_SLOT.length) {
    report('magic', 'The file ends inside the header.');
  }
  const version = header.number('version');
  if (version !== 1) {
    report('version', `LUKS version ${version} is not supported; it must be 1.`);
  }
  // "xts-plain64", "cbc-essiv:sha256": mode, generator, and the generator's hash.
  const [, cipherMode = '', ivGenerator = '', ivHash] = /^([^-]*)-([^:]*)(?::(.*))?$/s.exec(text('cipher-mode')) ?? [];
  if (cipherMode === '') {
    report('cipher-mode', 'cipher-mode does not name a mode and an initialisation vector generator.');
  }
  const keyBytes = header.number('key-bytes');
  const payloadOffset = header.number('payload-offset') * LUKS_SECTOR;
  const slots = readSlots(source, slotsOffset);
  const result: LuksHeader = {
    source,
    hostOffset,
    header,
    version,
    cipherMode,
    ivGenerator,
    keyBytes,
    payloadOffset,
    slots,
    problems,
    ivHash: ivGenerator === 'essiv' ? (ivHash ?? null) : null,
    cipherName: text('cipher-name'),
    hash: text('hash-spec'),
    masterKeyIterations: header.number('mk-digest-iter'),
    uuid: text('uuid'),
  };
  const demand = (holds: boolean, field: Parameters<typeof report>[0], message: string) => {
    if (!holds) {
      report(field, message);
    }
  };
  demand(
    CIPHERS[result.cipherName]?.includes(cipherKeyBytes(result)) ?? false,
    'cipher-name',
    `The cipher '${result.cipherName}' with a key of ${cipherKeyBytes(result)} bytes is not supported.`,
  );
  demand(MODES.includes(cipherMode), 'cipher-mode', `The cipher mode '${cipherMode}' is not supported.`);
  demand(IV_GENERATORS.includes(ivGenerator), 'cipher-mode', `The initialisation vector generator '${ivGenerator}' is not supported.`);
  demand(
    ivGenerator !== 'essiv' || HASHES.includes(ivHash ?? ''),
    'cipher-mode',
    `The generator's hash '${ivHash ?? ''}' is not supported.`,
  );
  demand(HASHES.includes(result.hash), 'hash-spec', `The hash '${result.hash}' is not supported.`);
  problems.push(...slotProblems(result));
  return result;
}

/** Length in bytes of the cipher's own key: XTS takes two of them. */
export function cipherKeyBytes({ cipherMode, keyBytes }: Pick<LuksHeader, 'cipherMode' | 'keyBytes'>): number {
  return cipherMode === 'xts' ? keyBytes / 2 : keyBytes;
}

/** Whether the bytes begin with the magic of LUKS, of any version. */
export function isLuks(head: Uint8Array): boolean {
  return head.length >= LUKS_MAGIC.length && LUKS_MAGIC.every((byte, index) => head[index] === byte);
}

/** @throws EngineError `format.invalid` or `format.unsupported` for the first problem */
export function requireOpenableLuks(luks: LuksHeader): void {
  const problem = luks.problems[0];
  if (problem) {
    const make = problem.field === 'version' ? unsupported : invalidFormat;
    throw make(luks.source.name, problem.structure, problem.hostOffset, problem.message);
  }
}

function readSlots(source: ByteSource, slotsOffset: number): LuksKeySlot[] {
  return Array.from({ length: LUKS_KEY_SLOTS }, (_, index) => {
    const hostOffset = slotsOffset + index * LUKS_KEY_SLOT.length;
    const fields: LuksKeySlot['fields'] = new Decoded(LUKS_KEY_SLOT, readAvailable(source, hostOffset, LUKS_KEY_SLOT.length));
    return {
      index,
      hostOffset,
      fields,
      active: fields.number('active') === LUKS_SLOT.enabled,
      iterations: fields.number('iterations'),
      keyOffset: fields.number('key-material-offset') * LUKS_SECTOR,
      stripes: fields.number('stripes'),
    };
  });
}

/** Key material must lie between the header and the payload, and no two slots may share it. */
function slotProblems({ slots, keyBytes, payloadOffset }: LuksHeader): Problem[] {
  const problems: Problem[] = [];
  const report = (slot: LuksKeySlot, field: 'active' | 'key-material-offset' | 'stripes', message: string) => {
    problems.push({
      severity: 'error',
      structure: LUKS_KEY_SLOT.title,
      field,
      hostOffset: slot.hostOffset + slot.fields.field(field).offset,
      message: `Key slot ${slot.index}: ${message}`,
    });
  };
  const materialBytes = Math.ceil((keyBytes * STRIPES) / LUKS_SECTOR) * LUKS_SECTOR;
  const headerEnd = LUKS_HEADER.length + LUKS_KEY_SLOTS * LUKS_KEY_SLOT.length;
  for (const slot of slots) {
    const state = slot.fields.number('active');
    if (state !== LUKS_SLOT.enabled && state !== LUKS_SLOT.disabled) {
      report(slot, 'active', `its state 0x${state.toString(16)} is neither enabled nor disabled.`);
    }
    if (slot.stripes !== STRIPES) {
      report(slot, 'stripes', `it has ${slot.stripes} stripes; only ${STRIPES} are supported.`);
    }
    if (slot.keyOffset < headerEnd) {
      report(slot, 'key-material-offset', 'its key material overlaps the header.');
    } else if (slot.keyOffset + materialBytes > payloadOffset) {
      report(slot, 'key-material-offset', 'its key material overlaps the payload.');
    }
    const shared = slots.find((other) => other.index > slot.index && Math.abs(other.keyOffset - slot.keyOffset) < materialBytes);
    if (shared) {
      report(slot, 'key-material-offset', `its key material overlaps that of key slot ${shared.index}.`);
    }
  }
  return problems;
}
