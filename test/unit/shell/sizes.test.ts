import { describe, expect, it } from 'vitest';

import { explainSize, parseBytes, parseNewSize, qemuSize } from '../../../src/shell/text/sizes';

const GIB = 1024 ** 3;

describe('a size that somebody types', () => {
  it.each([
    ['20G', 20 * GIB],
    ['20 GiB', 20 * GIB],
    ['1.5t', 1536 * GIB],
    ['0x1000', 4096],
    ['512', 512],
    ['512 B', 512],
    ['64kb', 65_536],
    [' 8M ', 8 * 1024 ** 2],
  ])('is read: %s', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each(['', 'G', '-1', '1.2.3', '20X', '20 G B', '9E', '0x', '1e6'])('is none: "%s"', (text) => {
    expect(parseBytes(text)).toBeNull();
  });

  it('may be a change of another', () => {
    expect(parseNewSize('+1G', 4 * GIB)).toBe(5 * GIB);
    expect(parseNewSize('- 1G', 4 * GIB)).toBe(3 * GIB);
    expect(parseNewSize('-5G', 4 * GIB)).toBeNull();
    expect(parseNewSize('2G', 4 * GIB)).toBe(2 * GIB);
  });

  it('is explained', () => {
    expect(explainSize('1M', 1024 ** 2)).toEqual({ message: '1 MiB (1,048,576 bytes)', isError: false });
    expect(explainSize('x', null).isError).toBe(true);
  });

  it.each([
    [20 * GIB, '20G'],
    [1536 * 1024 ** 2, '1536M'],
    [1000, '1000'],
    [0, '0'],
  ])('is written for qemu-img: %i', (bytes, text) => {
    expect(qemuSize(bytes)).toBe(text);
    expect(parseBytes(text)).toBe(bytes);
  });
});
