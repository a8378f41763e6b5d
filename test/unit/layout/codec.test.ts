import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { Decoded, encode, extractBits, safeNumber } from '../../../src/engine/layout/codec';
import { fieldLength, structure, type Structure } from '../../../src/engine/layout/fields';
import { WordTable } from '../../../src/engine/layout/wordTable';
import { BITMAP_DIRECTORY_ENTRY, QCOW2_HEADER, SNAPSHOT_ENTRY } from '../../../src/engine/formats/qcow2/structures';
import { LUKS_HEADER, LUKS_KEY_SLOT } from '../../../src/engine/formats/luks/structures';
import { QED_HEADER } from '../../../src/engine/formats/qed/structures';
import { VMDK_SPARSE_HEADER } from '../../../src/engine/formats/vmdk/structures';

const DECLARED: readonly (readonly [string, Structure])[] = [
  QCOW2_HEADER,
  SNAPSHOT_ENTRY,
  BITMAP_DIRECTORY_ENTRY,
  QED_HEADER,
  VMDK_SPARSE_HEADER,
  LUKS_HEADER,
  LUKS_KEY_SLOT,
].map((declared) => [declared.title, declared]);

describe('declared structures', () => {
  it.each(DECLARED)('%s: fields follow each other without gap or overlap', (_title, declared) => {
    let end = 0;
    for (const field of declared.fields) {
      expect(field.offset, field.name).toBe(end);
      end = field.offset + fieldLength(field);
    }
    expect(end).toBe(declared.length);
    expect(new Set(declared.fields.map(({ name }) => name)).size).toBe(declared.fields.length);
  });

  it.each(DECLARED)('%s: decodes what was encoded', (_title, declared) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: declared.length, maxLength: declared.length }), (bytes) => {
        const decoded = new Decoded(declared, bytes);
        const values = Object.fromEntries(declared.fields.map(({ name }) => [name, decoded.value(name)]));
        expect(encode(declared, values)).toEqual(bytes);
      }),
    );
  });

  it('read as zero where the bytes end, and say so', () => {
    const decoded = new Decoded(QCOW2_HEADER, Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0));
    expect([decoded.has('magic'), decoded.has('version')]).toEqual([true, false]);
    expect([decoded.number('magic'), decoded.number('version'), decoded.bigint('size')]).toEqual([0x514649fb, 0, 0n]);
    expect(decoded.raw('version')).toEqual(Uint8Array.of(0, 0));
  });

  it('refuse values that do not fit', () => {
    const tiny = structure('tiny', 'little', 2, [{ kind: 'u16', name: 'number', offset: 0, show: 'number', meaning: '' }]);
    expect(encode(tiny, { number: 0x1234 })).toEqual(Uint8Array.of(0x34, 0x12));
    expect(() => encode(tiny, { number: 65536 })).toThrow(RangeError);
    expect(() => encode(tiny, { number: -1 })).toThrow(RangeError);
  });

  it('make numbers past 2^53-1 fail every range check', () => {
    expect([safeNumber(2n ** 53n - 1n), safeNumber(2n ** 53n), safeNumber(2n ** 64n - 1n)]).toEqual([2 ** 53 - 1, Infinity, Infinity]);
  });
});

describe('bit ranges', () => {
  it('shift numbers down and leave offsets where they are', () => {
    const word = 0x8000_1234_5678_9e00n;
    expect(extractBits(word, { name: 'offset', lowBit: 9, width: 47, show: 'hostOffset', meaning: '' })).toBe(0x1234_5678_9e00n);
    expect(extractBits(word, { name: 'flag', lowBit: 63, width: 1, show: 'flag', meaning: '' })).toBe(1n);
    expect(extractBits(word, { name: 'number', lowBit: 9, width: 7, meaning: '' })).toBe(0x4fn);
  });
});

describe('a table of words', () => {
  it.each(['big', 'little'] as const)('reads halves and offsets as the declarations do, %s-endian', (order) => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (word) => {
        const bytes = new Uint8Array(16);
        new DataView(bytes.buffer).setBigUint64(8, word, order === 'little');
        const table = new WordTable(bytes, 4096, order);
        expect(table.word(1)).toBe(word);
        expect((BigInt(table.high(1)) << 32n) | BigInt(table.low(1))).toBe(word);
        expect(table.hostOffsetAt(1)).toBe(safeNumber(word & 0x00ff_ffff_ffff_fe00n));
        expect([table.length, table.entryOffset(1)]).toEqual([2, 4104]);
      }),
    );
  });
});
