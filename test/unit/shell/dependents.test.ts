import { describe, expect, it } from 'vitest';

import { dependentsOf } from '../../../src/shell/chains/dependents';
import { buildForest } from '../../../src/shell/chains/forest';
import { active, backing, known } from './chainFixtures';

describe('the images that build on one', () => {
  const forest = buildForest([
    known(active('/top'), backing('/mid'), backing('/base')),
    known(active('/mid'), backing('/base')),
    known(active('/other'), backing('/base')),
    known(active('/base')),
    known(active('/alone')),
  ]);

  it('are found however far above, the nearest first', () => {
    expect(dependentsOf(forest, new Set(['/base']))).toEqual(['/mid', '/other', '/top']);
    expect(dependentsOf(forest, new Set(['/mid']))).toEqual(['/top']);
    expect(dependentsOf(forest, new Set(['/top']))).toEqual([]);
    expect(dependentsOf(forest, new Set(['/alone']))).toEqual([]);
  });

  it('are found once on a ring', () => {
    const loop = { ...backing('/a'), state: { kind: 'loop' } as const, image: null };
    const ring = buildForest([known(active('/a'), backing('/b'), loop), known(active('/b'), backing('/a'))]);
    expect(dependentsOf(ring, new Set(['/a']))).toEqual(['/b']);
  });
});
