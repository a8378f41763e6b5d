import type { ImageFormat } from '../../protocol/chain';
import { unsupported } from '../errors';
import { readAvailable, type ByteSource } from '../io/source';

/*
 * Formats by their first bytes, as QEMU guesses them (block.c, bdrv_probe_all, and each driver's probe function). Raw is what remains,
 * which is why a raw disk whose guest wrote a magic is mistaken; whoever opens for writing never guesses.
 */

/** QEMU's drivers look at this many bytes. */
export const PROBE_BYTES = 2048;

/** What the first bytes say: a format that can be read here, one that is known but cannot, or nothing. */
export type ProbeResult =
  | { readonly kind: 'known'; readonly format: ImageFormat }
  | { readonly kind: 'foreign'; readonly title: string }
  | { readonly kind: 'none' };

/** Formats that QEMU would open with a driver that there is none of here; taking them for raw would show their metadata as guest data. */
const FOREIGN: readonly { readonly title: string; readonly offset: number; readonly magic: readonly number[] }[] = [
  { title: 'a LUKS volume', offset: 0, magic: [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe] },
  { title: 'a VHDX image', offset: 0, magic: ascii('vhdxfile') },
  { title: 'a VHD image', offset: 0, magic: ascii('conectix') },
  { title: 'a VDI image', offset: 0x40, magic: [0x7f, 0x10, 0xda, 0xbe] },
  { title: 'a Parallels image', offset: 0, magic: ascii('WithoutFreeSpace') },
  { title: 'a Parallels image', offset: 0, magic: ascii('WithouFreSpacExt') },
  { title: 'an ESX sparse VMDK extent', offset: 0, magic: ascii('COWD') },
];

/** What the first bytes of a file (up to 2048 of them) say. */
export function probeBytes(head: Uint8Array): ProbeResult {
  if (startsWith(head, 0, [0x51, 0x46, 0x49, 0xfb]) && head.length >= 8) {
    const version = new DataView(head.buffer, head.byteOffset, head.byteLength).getUint32(4);
    if (version >= 2) {
      return { kind: 'known', format: 'qcow2' };
    }
    return version === 1 ? { kind: 'foreign', title: 'a qcow image of version 1' } : { kind: 'none' };
  }
  if (startsWith(head, 0, [0x51, 0x45, 0x44, 0x00])) {
    return { kind: 'known', format: 'qed' };
  }
  if (startsWith(head, 0, ascii('KDMV')) || isVmdkDescriptor(head)) {
    return { kind: 'known', format: 'vmdk' };
  }
  const foreign = FOREIGN.find(({ offset, magic }) => startsWith(head, offset, magic));
  return foreign ? { kind: 'foreign', title: foreign.title } : { kind: 'none' };
}

/**
 * The format of an image by its magic; raw when there is none.
 * @throws EngineError `format.unsupported` for a format that QEMU knows and this program cannot read; `file.io`
 */
export function probeFormat(source: ByteSource): ImageFormat {
  const result = probeBytes(readAvailable(source, 0, PROBE_BYTES));
  switch (result.kind) {
    case 'known':
      return result.format;
    case 'none':
      return 'raw';
    case 'foreign':
      throw unsupported(source.name, 'magic', 0, `This is ${result.title}, which cannot be read yet.`);
  }
}

/** Whether a text begins, after comments and blank lines, with the `version=` line that a VMDK descriptor has. */
function isVmdkDescriptor(head: Uint8Array): boolean {
  // The guess is made from plain text only; the first byte settles nearly every other file at once.
  const first = head[0];
  if (first === undefined || (first !== 0x23 && first !== 0x20 && first !== 0x0a && first !== 0x0d && first !== 0x76)) {
    return false;
  }
  for (const line of String.fromCharCode(...head).split('\n')) {
    if (line.startsWith('#') || /^ *\r?$/.test(line)) {
      continue;
    }
    return /^version=[123]\r?$/.test(line);
  }
  return false;
}

function startsWith(head: Uint8Array, offset: number, magic: readonly number[]): boolean {
  return head.length >= offset + magic.length && magic.every((byte, index) => head[offset + index] === byte);
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}
