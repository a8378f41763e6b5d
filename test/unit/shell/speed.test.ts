import { describe, expect, it } from 'vitest';

import { Speed } from '../../../src/shell/commands/manage/speed';

const MIB = 1024 ** 2;

describe('the speed of something', () => {
  it('cannot be told of one moment', () => {
    const speed = new Speed();
    expect(speed.at(1000, 0)).toBe('');
    expect(speed.at(1000, MIB)).toBe('');
  });

  it('is that of the last seconds', () => {
    const speed = new Speed();
    speed.at(0, 0);
    expect(speed.at(1000, 100 * MIB)).toBe('100 MiB/s');
    for (let second = 2; second <= 10; second++) {
      speed.at(second * 1000, (100 + 10 * (second - 1)) * MIB);
    }
    expect(speed.at(11_000, 200 * MIB)).toBe('10 MiB/s');
  });
});
