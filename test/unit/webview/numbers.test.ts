import { describe, expect, it } from 'vitest';
import { counted, exactly, grouped, hex, percent, size } from '../../../webview/format/numbers';
import { parseOffset } from '../../../webview/format/offsets';

const KiB = 1024;
const GiB = KiB ** 3;

describe('sizes', () => {
  it('have the unit in which they are short, exact when they are whole', () => {
    expect([0, 1, 512, KiB, 64 * KiB, 1.5 * KiB, 2_031_616, 4 * GiB, KiB ** 4, 64 * KiB ** 4].map(size)).toEqual([
      '0 B',
      '1 B',
      '512 B',
      '1 KiB',
      '64 KiB',
      '1.5 KiB',
      '1.94 MiB',
      '4 GiB',
      '1 TiB',
      '64 TiB',
    ]);
  });

  it('never show more than four digits before the point, nor an exponent', () => {
    expect(size(1023 * KiB + 1)).toBe('1023 KiB');
    expect(size(Number.MAX_SAFE_INTEGER)).toBe('8 PiB');
  });

  it('are told exactly beside', () => {
    expect(exactly(1)).toBe('1 byte (0x1)');
    expect(exactly(2_031_616)).toBe('2,031,616 bytes (0x1f0000)');
  });
});

describe('shares', () => {
  it('of nothing are nothing', () => {
    expect(percent(0, 0)).toBe('0 %');
    expect(percent(5, 0)).toBe('0 %');
  });

  it('that are tiny do not read as nothing, those that are nearly all not as all', () => {
    expect(percent(1, 1_000_000)).toBe('< 0.1 %');
    expect(percent(999_999, 1_000_000)).toBe('> 99.9 %');
    expect(percent(7, 7)).toBe('100 %');
    expect(percent(1, 8)).toBe('12.5 %');
  });
});

describe('counts', () => {
  it('agree with their noun', () => {
    expect([counted(1, 'cluster'), counted(0, 'cluster'), counted(16_777_216, 'cluster'), counted(2, 'entry', 'entries')]).toEqual([
      '1 cluster',
      '0 clusters',
      '16,777,216 clusters',
      '2 entries',
    ]);
    expect(grouped(1_073_741_824)).toBe('1,073,741,824');
    expect(hex(255)).toBe('0xff');
  });
});

describe('a typed offset', () => {
  it('is decimal, hexadecimal or has a unit', () => {
    const typed = ['0', '65536', '65,536', '0x10000', ' 0X1F ', '64K', '64KiB', '1.5 GiB', '4g', '10b'];
    expect(typed.map(parseOffset)).toEqual([0, 65536, 65536, 65536, 31, 65536, 65536, 1.5 * GiB, 4 * GiB, 10]);
  });

  it('is nothing else', () => {
    expect(['', 'x', '0x', '12q', '-1', '1.3', '0x1g', '99999999999999999999', '1e5'].map(parseOffset)).toEqual(Array(9).fill(null));
  });
});
