import { describe, expect, it } from 'vitest';

import { dateText, exactSize, humanSize, visible } from '../../../src/engine/inspect/wording';
import { shellWord } from '../../../src/engine/inspect/commands';

describe('wording', () => {
  it('writes sizes as qemu-img does', () => {
    // Seen with qemu-img info 7.2 for files of these lengths.
    expect([0, 512, 999, 1000, 1024, 1536, 1047527424, 2 ** 30, 2 ** 40, 1300000, 4325376, 4.375 * 2 ** 20].map(humanSize)).toEqual([
      '0 B',
      '512 B',
      '999 B',
      '0.977 KiB',
      '1 KiB',
      '1.5 KiB',
      '999 MiB',
      '1 GiB',
      '1 TiB',
      '1.24 MiB',
      '4.12 MiB',
      '4.38 MiB',
    ]);
    expect(exactSize(65536)).toBe('64 KiB (65536 bytes)');
    expect(exactSize(12)).toBe('12 bytes');
  });

  it('spells out what cannot be seen', () => {
    expect(visible('a\u0000b\u001b[31mc\u202egpj.exe\n')).toBe('a\\u{0}b\\u{1b}[31mc\\u{202e}gpj.exe\\u{a}');
    expect(visible('Ärger <b>&')).toBe('Ärger <b>&');
  });

  it('writes dates in UTC, and what no calendar holds as seconds', () => {
    expect(dateText(1767603600)).toBe('2026-01-05 09:00:00 UTC');
    expect(dateText(2 ** 53)).toBe(`${2 ** 53} s since 1970`);
  });

  it.each([
    ['/a/b.qcow2', '/a/b.qcow2'],
    ['/a b/c', "'/a b/c'"],
    ["/it's", String.raw`'/it'\''s'`],
    ['/$(reboot)`x`', "'/$(reboot)`x`'"],
    ['/a\nb', String.raw`$'/a\x0ab'`],
    ["/a\n'b\\", String.raw`$'/a\x0a\'b\\'`],
    ['', "''"],
  ])('quotes %j for a shell', (text, quoted) => {
    expect(shellWord(text)).toBe(quoted);
  });
});
