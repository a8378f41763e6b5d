import { describe, expect, test } from 'vitest';
import { formatSize } from '../../../src/cli/sizes';
import { parseSize } from '../../../src/engine/manage/sizes';

describe('sizes for people, as qemu-img 7.2 shows them', () => {
  test.each<[number, string]>([
    [0, '0 B'],
    [1, '1 B'],
    [999, '999 B'],
    [1000, '0.977 KiB'],
    [1023, '0.999 KiB'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [200_704, '196 KiB'],
    // A tie goes to the even digit, up or down.
    [197_120, '192 KiB'],
    [198_144, '194 KiB'],
    [1_023_487, '999 KiB'],
    [1_023_999, '1e+03 KiB'],
    [1_024_000, '0.977 MiB'],
    [3_448_832, '3.29 MiB'],
    [10_485_760, '10 MiB'],
    [2 ** 40, '1 TiB'],
    [2 ** 50, '1 PiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});

describe('sizes as arguments', () => {
  test.each<[string, bigint]>([
    ['0', 0n],
    ['010', 10n],
    ['512', 512n],
    ['1b', 1n],
    ['64k', 65_536n],
    ['64K', 65_536n],
    ['1.5k', 1536n],
    ['1.k', 1024n],
    ['1.0', 1n],
    ['0.1k', 102n],
    ['1.99999999k', 2048n],
    ['0x10', 16n],
    ['0X1b', 27n],
    ['0x10k', 16_384n],
    [' +1k', 1024n],
    ['7E', 7n * 2n ** 60n],
    ['9223372036854775808', 2n ** 63n],
  ])('%j is %s bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(['', 'k', '-1', '1.5', '1e3', '.5k', '1k ', '1kb', '0x', '1.5.2k', 'inf', 'nan', '1 k'])('%j is no size', (text) => {
    expect(parseSize(text)).toBeNull();
  });
});
