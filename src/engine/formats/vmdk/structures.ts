import { structure } from '../../layout/fields';

/* Source of every fact here: VMware's "Virtual Disk Format 5.0" technical note. All lengths on disk are in 512-byte sectors. */

export const VMDK_MAGIC = 0x564d444b;

export const VMDK_SPARSE_HEADER = structure('VMDK sparse extent header', 'little', 79, [
  { kind: 'u32', name: 'magicNumber', offset: 0, show: 'hex', meaning: '"KDMV" marks a hosted sparse extent.' },
  { kind: 'u32', name: 'version', offset: 4, show: 'number', meaning: 'Format version: 1, 2 or 3.' },
  {
    kind: 'u32',
    name: 'flags',
    offset: 8,
    show: 'bits',
    meaning: 'How to read the extent.',
    bits: [
      { name: 'valid new line detection', lowBit: 0, width: 1, meaning: 'The newline test bytes are meaningful.' },
      { name: 'redundant grain table', lowBit: 1, width: 1, meaning: 'A second copy of the grain tables is kept.' },
      { name: 'zeroed-grain GTE', lowBit: 2, width: 1, meaning: 'A grain table entry of 1 stands for a grain of zeroes.' },
      { name: 'compressed grains', lowBit: 16, width: 1, meaning: 'Grains are compressed.' },
      { name: 'markers', lowBit: 17, width: 1, meaning: 'Grains and metadata are preceded by markers (stream optimized).' },
    ],
  },
  { kind: 'u64', name: 'capacity', offset: 12, show: 'number', meaning: 'Size of the extent in sectors of 512 bytes.' },
  { kind: 'u64', name: 'grainSize', offset: 20, show: 'number', meaning: 'Size of a grain in sectors: a power of two above 4 KiB.' },
  {
    kind: 'u64',
    name: 'descriptorOffset',
    offset: 28,
    show: 'number',
    meaning: 'Where the embedded descriptor lies, in sectors; 0 without one.',
  },
  { kind: 'u64', name: 'descriptorSize', offset: 36, show: 'number', meaning: 'Length of the embedded descriptor in sectors.' },
  { kind: 'u32', name: 'numGTEsPerGT', offset: 44, show: 'number', meaning: 'Entries in one grain table.' },
  { kind: 'u64', name: 'rgdOffset', offset: 48, show: 'number', meaning: 'Where the redundant grain directory lies, in sectors.' },
  {
    kind: 'u64',
    name: 'gdOffset',
    offset: 56,
    show: 'number',
    meaning: 'Where the grain directory lies, in sectors; all ones when it is in the footer.',
  },
  { kind: 'u64', name: 'overHead', offset: 64, show: 'number', meaning: 'Sectors used by metadata at the start of the extent.' },
  {
    kind: 'u8',
    name: 'uncleanShutdown',
    offset: 72,
    show: 'number',
    meaning: 'Not 0 when the extent was open for writing and not closed.',
  },
  { kind: 'u8', name: 'singleEndLineChar', offset: 73, show: 'hex', meaning: 'Newline test byte, 0x0a.' },
  { kind: 'u8', name: 'nonEndLineChar', offset: 74, show: 'hex', meaning: 'Newline test byte, 0x20.' },
  { kind: 'u8', name: 'doubleEndLineChar1', offset: 75, show: 'hex', meaning: 'Newline test byte, 0x0d.' },
  { kind: 'u8', name: 'doubleEndLineChar2', offset: 76, show: 'hex', meaning: 'Newline test byte, 0x0a.' },
  {
    kind: 'u16',
    name: 'compressAlgorithm',
    offset: 77,
    show: 'enum',
    values: { 0: 'none', 1: 'deflate' },
    meaning: 'How grains are compressed.',
  },
]);
