import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/errors';
import { probeBytes, probeFormat } from '../../../src/engine/formats/probe';
import { MemorySource } from '../io/memorySource';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const words = (...values: readonly number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => view.setUint32(index * 4, value));
  return new Uint8Array(view.buffer);
};

describe('formats by their first bytes', () => {
  test.each<[string, Uint8Array, string]>([
    ['qcow2 version 2', words(0x514649fb, 2), 'qcow2'],
    ['qcow2 version 3', words(0x514649fb, 3), 'qcow2'],
    ['a qcow2 version to come', words(0x514649fb, 0xffffffff), 'qcow2'],
    ['qcow2 magic and nothing else', words(0x514649fb), 'raw'],
    ['qcow2 magic with version 0', words(0x514649fb, 0), 'raw'],
    ['QED', text('QED\0'), 'qed'],
    ['QED cut short', text('QED'), 'raw'],
    ['VMDK sparse', text('KDMV\x01\0\0\0'), 'vmdk'],
    ['VMDK descriptor', text('# Disk DescriptorFile\nversion=1\nCID=1\n'), 'vmdk'],
    ['VMDK descriptor with comments, blank lines and carriage returns', text('# a\r\n\r\n  \n# b\nversion=3\r\n'), 'vmdk'],
    ['a text that is none', text('# Disk DescriptorFile\nCID=1\nversion=1\n'), 'raw'],
    ['another version', text('version=4\n'), 'raw'],
    ['nothing', new Uint8Array(0), 'raw'],
    ['zeroes', new Uint8Array(4096), 'raw'],
    ['spaces to the end', new Uint8Array(4096).fill(0x20), 'raw'],
  ])('%s', (_name, bytes, format) => {
    expect(probeFormat(new MemorySource(bytes))).toBe(format);
  });

  test.each<[string, Uint8Array]>([
    ['qcow version 1', words(0x514649fb, 1)],
    ['LUKS', Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe, 0, 1)],
    ['VHDX', text('vhdxfile')],
    ['VHD', text('conectix')],
    ['VDI', Uint8Array.from({ length: 80 }, (_, index) => [0x7f, 0x10, 0xda, 0xbe][index - 64] ?? 0)],
  ])('%s is known and not readable', (_name, bytes) => {
    expect(probeBytes(bytes).kind).toBe('foreign');
    expect(() => probeFormat(new MemorySource(bytes))).toThrow(EngineError);
  });
});
