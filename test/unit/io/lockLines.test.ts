import { describe, expect, test } from 'vitest';
import { parseLock, parseLocks } from '../../../src/engine/io/lockLines';

describe('lines of /proc/locks', () => {
  test.each([
    ['1: OFDLCK ADVISORY  READ -1 fe:00:2148699 100 101', { device: 'fe:00', inode: '2148699', first: 100, last: 101, exclusive: false }],
    [
      '23: POSIX  ADVISORY  WRITE 4711 08:02:18446744073709551615 0 EOF',
      { device: '08:02', inode: '18446744073709551615', first: 0, last: Infinity, exclusive: true },
    ],
    ['4: POSIX  MANDATORY READ 4711 00:1f:7 203 203', { device: '00:1f', inode: '7', first: 203, last: 203, exclusive: false }],
    ['5: FLOCK  ADVISORY  WRITE 4711 08:02:7 0 EOF', null],
    ['6: OFDLCK ADVISORY  READ -1 08:02:7 104 199', null],
    ['7: OFDLCK ADVISORY  READ -1 08:02:7 0 99', null],
    ['8: POSIX  ADVISORY  WRITE 4711 08:02:7 1073741824 1073742335', null],
    ['1: -> OFDLCK ADVISORY  WRITE -1 08:02:7 100 100', null],
    ['9: LEASE  ACTIVE    WRITE 4711 08:02:7 0 EOF', null],
    ['', null],
    ['garbage', null],
  ])('%s', (line, lock) => {
    expect(parseLock(line)).toEqual(lock);
  });

  test('locks are found by inode', () => {
    const locks = parseLocks(
      '1: OFDLCK ADVISORY  READ -1 fe:00:7 100 100\n2: OFDLCK ADVISORY  READ -1 fd:00:7 201 201\n3: OFDLCK ADVISORY  READ -1 fe:00:8 100 100\n',
    );
    expect([...locks].map(([inode, ranges]) => [inode, ranges.length])).toEqual([
      ['7', 2],
      ['8', 1],
    ]);
  });
});
