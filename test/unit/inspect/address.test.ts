import { describe, expect, it } from 'vitest';

import { EngineError } from '../../../src/engine/errors';
import { describeOffset, parseAddress } from '../../../src/engine/inspect/address';

const CONTEXT = { space: 'guest', clusterSize: 65536 } as const;

describe('an address', () => {
  it.each([
    ['4G', 'guest', 2 ** 32],
    ['4 GiB', 'guest', 2 ** 32],
    ['4gib', 'guest', 2 ** 32],
    ['0x1f0000', 'guest', 0x1f0000],
    ['0x1f_0000', 'guest', 0x1f0000],
    ['0X10K', 'guest', 16384],
    ['0x10B', 'guest', 0x10b],
    ['1048576', 'guest', 2 ** 20],
    ['1,048,576', 'guest', 2 ** 20],
    ['1 048 576', 'guest', 2 ** 20],
    ["1'048'576", 'guest', 2 ** 20],
    ['1_048_576', 'guest', 2 ** 20],
    ['512 bytes', 'guest', 512],
    ['1.5M', 'guest', 1536 * 1024],
    ['1.5 KiB', 'guest', 1536],
    ['2P', 'guest', 2 ** 51],
    ['g:64K', 'guest', 65536],
    ['guest: 1T', 'guest', 2 ** 40],
    ['h:64K', 'host', 65536],
    ['H:0x10', 'host', 16],
    ['c:1024', 'guest', 2 ** 26],
    ['c:0x400', 'guest', 2 ** 26],
    ['c:1,024', 'guest', 2 ** 26],
    ['hc:2', 'host', 131072],
    ['c:1+512', 'guest', 66048],
    ['1G + 64K + 0x200', 'guest', 2 ** 30 + 65536 + 512],
    ['0', 'guest', 0],
    ['9007199254740991', 'guest', 2 ** 53 - 1],
  ] as const)('reads %s', (text, space, offset) => {
    expect(parseAddress(text, CONTEXT)).toMatchObject({ space, offset });
  });

  it('takes the space of the view it is typed in', () => {
    expect(parseAddress('64K', { space: 'host', clusterSize: 512 })).toMatchObject({ space: 'host', offset: 65536 });
  });

  it('says what it understood', () => {
    expect(parseAddress('4G', CONTEXT).understood).toBe('guest offset 4 GiB (0x100000000)');
    expect(parseAddress('c:1024', CONTEXT).understood).toBe('guest cluster 1024: guest offset 64 MiB (0x4000000)');
    expect(parseAddress('h:1234567', CONTEXT).understood).toBe('host offset 1234567 bytes (0x12d687)');
  });

  it.each([
    ['', /^Type an address/],
    ['hello', /'hello' is not a number/],
    ['0x', /'0x' is not a number/],
    ['0xZZ', /not a number/],
    ['x:5', /'x:' is not known/],
    ['4Q', /unit 'Q' is not known/],
    ['4KB', /unit 'KB' is not known/],
    ['1,5G', /comma/],
    ['12,34', /comma/],
    ['-5', /not negative/],
    ['1.0001K', /not a whole number of bytes/],
    ['5+', /A number is missing/],
    ['c:', /A number is missing/],
    ['c:4K', /'4K' is not a number/],
    ['9007199254740992', /past 2\^53-1/],
    ['99999999999999999999E', /past 2\^53-1/],
    ['1'.repeat(500), /too long/],
  ])('refuses %j in one sentence', (text, message) => {
    const error = thrownBy(() => parseAddress(text, CONTEXT));
    expect(error).toBeInstanceOf(EngineError);
    expect(error).toMatchObject({ code: 'address.invalid', message: expect.stringMatching(message) as string });
  });

  it('knows no clusters where there are none', () => {
    expect(() => parseAddress('c:1', { space: 'guest', clusterSize: null })).toThrow(/no clusters/);
  });

  it('writes offsets with a unit only where it is exact', () => {
    expect([0, 512, 1000, 1536, 65536, 2 ** 30 + 1].map(describeOffset)).toEqual([
      '0 bytes (0x0)',
      '512 bytes (0x200)',
      '1000 bytes (0x3e8)',
      '1.5 KiB (0x600)',
      '64 KiB (0x10000)',
      '1073741825 bytes (0x40000001)',
    ]);
  });
});

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return null;
}
