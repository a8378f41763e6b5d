import { describe, expect, it } from 'vitest';
import { hexDump, parseHexBytes, spacedHex, toAscii, toHex } from '../../../webview/format/bytes';
import { baseName, shellQuoted, visible } from '../../../webview/format/text';
import { numbersAt } from '../../../webview/hex/numbers-at';

describe('bytes as text', () => {
  it('are pairs of digits, spaced for reading', () => {
    expect(toHex(Uint8Array.of(0, 255, 16))).toBe('00ff10');
    expect(spacedHex('00ff10')).toBe('00 ff 10');
    expect(spacedHex('')).toBe('');
  });

  it('are printed in rows with offset and ASCII, the last row as wide as the others', () => {
    const bytes = Uint8Array.from('QFI\u00fb and more than a row', (character) => character.charCodeAt(0));
    expect(hexDump(bytes, 0x1000)).toBe(
      [
        '00001000  51 46 49 fb 20 61 6e 64 20 6d 6f 72 65 20 74 68  QFI. and more th',
        '00001010  61 6e 20 61 20 72 6f 77                          an a row',
      ].join('\n'),
    );
    expect(toAscii(Uint8Array.of(0x1f, 0x20, 0x7e, 0x7f))).toBe('. ~.');
  });

  it('are read back from what a person types', () => {
    expect(parseHexBytes('51 46 49 fb')).toEqual(Uint8Array.of(0x51, 0x46, 0x49, 0xfb));
    expect(parseHexBytes('0x514649FB')).toEqual(Uint8Array.of(0x51, 0x46, 0x49, 0xfb));
    expect(['', '5', '51 4', 'zz', '51 46 4g'].map(parseHexBytes)).toEqual([null, null, null, null, null]);
  });

  it('are numbers of both orders, as far as there are enough', () => {
    expect(numbersAt(Uint8Array.of(0, 1, 0, 0))).toEqual([
      { name: 'u8', value: '0' },
      { name: 'u16 BE', value: '1' },
      { name: 'u32 BE', value: '65,536' },
      { name: 'u16 LE', value: '256' },
      { name: 'u32 LE', value: '256' },
    ]);
    expect(numbersAt(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255)).find(({ name }) => name === 'u64 LE')?.value).toBe(
      '18,446,744,073,709,551,615',
    );
    expect(numbersAt(new Uint8Array())).toEqual([]);
  });
});

describe('text from an image', () => {
  it('shows what would be invisible or turn the text around', () => {
    expect(visible('a\nb\u202egpj.exe\u0000')).toBe(String.raw`a\u{a}b\u{202e}gpj.exe\u{0}`);
    expect(visible('Grüße, 数据 🗄')).toBe('Grüße, 数据 🗄');
  });

  it('is quoted for a shell only where it must be', () => {
    expect([shellQuoted('/a/b-c.qcow2'), shellQuoted('a b'), shellQuoted("it's"), shellQuoted('$(reboot)')]).toEqual([
      '/a/b-c.qcow2',
      "'a b'",
      String.raw`'it'\''s'`,
      "'$(reboot)'",
    ]);
  });

  it('has a last component whatever system it comes from', () => {
    expect(['/a/b.qcow2', 'b.qcow2', 'C:\\vm\\b.vmdk', '/a/b/', '/'].map(baseName)).toEqual(['b.qcow2', 'b.qcow2', 'b.vmdk', 'b', '/']);
  });
});
