import { describe, expect, it } from 'vitest';

import { Expansion } from '../../../src/shell/chains/expansion';

function memory(value?: unknown) {
  return {
    value,
    get: () => value,
    update: (_key: string, next: unknown) => {
      value = next;
      return Promise.resolve();
    },
  };
}

describe('what the person opened and closed in the tree', () => {
  it('is known in the next window', async () => {
    const state = memory();
    const before = new Expansion(state);
    await before.set('/w/a.qcow2', false);
    await before.set('/w/b.qcow2', true);
    await before.set('/w/b.qcow2', false);
    const after = new Expansion(state);
    expect(['/w/a.qcow2', '/w/b.qcow2', '/w/c.qcow2'].map((id) => after.of(id))).toEqual([false, false, undefined]);
  });

  it('is bounded, the oldest forgotten first', async () => {
    const expansion = new Expansion(memory());
    for (let row = 0; row <= 1_000; row++) {
      await expansion.set(`/w/${row}`, true);
    }
    expect([expansion.of('/w/0'), expansion.of('/w/1'), expansion.of('/w/1000')]).toEqual([undefined, true, true]);
  });

  it('is nothing when the store is damaged', () => {
    const expansion = new Expansion(memory([null, ['/w/a', 'yes'], ['/w/b', true], 7]));
    expect([expansion.of('/w/a'), expansion.of('/w/b')]).toEqual([undefined, true]);
  });
});
