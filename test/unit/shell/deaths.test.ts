import { expect, it } from 'vitest';

import { Deaths } from '../../../src/shell/deaths';

it('takes three deaths within a minute for too many, and forgets older ones', () => {
  const deaths = new Deaths();
  expect([0, 30_000, 61_000, 62_000, 200_000].map((time) => deaths.add(time))).toEqual([false, false, false, true, false]);
});
