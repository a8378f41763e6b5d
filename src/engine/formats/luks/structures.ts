import { structure } from '../../layout/fields';

/* Source of every fact here: "LUKS On-Disk Format Specification", version 1.2.3 (cryptsetup). */

/** "LUKS" and two bytes that no text has. */
export const LUKS_MAGIC: readonly number[] = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];

export const LUKS_KEY_SLOTS = 8;
/** LUKS counts offsets in sectors of this many bytes. */
export const LUKS_SECTOR = 512;

/** States of a key slot. */
export const LUKS_SLOT = { enabled: 0x00ac71f3, disabled: 0x0000dead } as const;

/** The header up to its key slots, which follow one after the other. */
export const LUKS_HEADER = structure('LUKS header', 'big', 208, [
  { kind: 'bytes', name: 'magic', offset: 0, length: 6, show: 'hex', meaning: '"LUKS\\xba\\xbe" marks a LUKS header.' },
  { kind: 'u16', name: 'version', offset: 6, show: 'number', meaning: 'LUKS version; qcow2 uses version 1.' },
  { kind: 'ascii', name: 'cipher-name', offset: 8, length: 32, show: 'text', meaning: 'Cipher that guest data is encrypted with.' },
  {
    kind: 'ascii',
    name: 'cipher-mode',
    offset: 40,
    length: 32,
    show: 'text',
    meaning: 'Mode of the cipher and how the initialisation vector of a sector is made.',
  },
  {
    kind: 'ascii',
    name: 'hash-spec',
    offset: 72,
    length: 32,
    show: 'text',
    meaning: 'Hash for deriving keys from passphrases and for the anti-forensic splitter.',
  },
  {
    kind: 'u32',
    name: 'payload-offset',
    offset: 104,
    show: 'number',
    meaning: 'Where encrypted data begins, in sectors of 512 bytes; in qcow2 only the end of the key material.',
  },
  { kind: 'u32', name: 'key-bytes', offset: 108, show: 'number', meaning: 'Length of the master key in bytes.' },
  { kind: 'bytes', name: 'mk-digest', offset: 112, length: 20, show: 'hex', meaning: 'Checksum that tells the right master key.' },
  { kind: 'bytes', name: 'mk-digest-salt', offset: 132, length: 32, show: 'hex', meaning: 'Salt of that checksum.' },
  { kind: 'u32', name: 'mk-digest-iter', offset: 164, show: 'number', meaning: 'Iterations of that checksum.' },
  { kind: 'ascii', name: 'uuid', offset: 168, length: 40, show: 'text', meaning: 'Identity of the volume.' },
]);

export const LUKS_KEY_SLOT = structure('LUKS key slot', 'big', 48, [
  {
    kind: 'u32',
    name: 'active',
    offset: 0,
    show: 'enum',
    values: { [LUKS_SLOT.enabled]: 'enabled', [LUKS_SLOT.disabled]: 'disabled' },
    meaning: 'Whether a passphrase opens this slot.',
  },
  { kind: 'u32', name: 'iterations', offset: 4, show: 'number', meaning: 'Iterations for deriving the slot key from a passphrase.' },
  { kind: 'bytes', name: 'salt', offset: 8, length: 32, show: 'hex', meaning: 'Salt of that derivation.' },
  {
    kind: 'u32',
    name: 'key-material-offset',
    offset: 40,
    show: 'number',
    meaning: 'Where the encrypted, split master key lies, in sectors of 512 bytes from the header.',
  },
  { kind: 'u32', name: 'stripes', offset: 44, show: 'number', meaning: 'How many parts the master key is split into (4000).' },
]);
