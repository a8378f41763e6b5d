import { describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { changedFields } from '../../../src/worker/changes';
import { bigEndian, inspect, sourceOf } from '../inspect/memory';

const image = new Qcow2Builder({ size: 2 ** 20, clusterBits: 12 }).build();

describe('what changed between two readings', () => {
  it('is nothing when only data did', () => {
    const one = inspect(sourceOf(image)).overview();
    expect(changedFields(one, inspect(sourceOf(image)).overview())).toEqual([]);
  });

  it('is named by structure and field, facts besides', () => {
    const patches = [
      { hostOffset: 24, bytes: bigEndian(2 ** 19, 8) },
      { hostOffset: 79, bytes: Uint8Array.of(1) },
    ];
    const [before, after] = [inspect(sourceOf(image)).overview(), inspect(sourceOf(image, patches)).overview()];
    expect(changedFields(before, after)).toEqual([
      'header.size',
      'header.incompatible_features',
      'fact.virtual size',
      'fact.cleanly shut down',
    ]);
  });

  it('names a structure that was not there whole', () => {
    const extension = [...bigEndian(0xe2792aca, 4), ...bigEndian(3, 4), 0x72, 0x61, 0x77, 0, 0, 0, 0, 0, ...bigEndian(0, 8)];
    const grown = inspect(sourceOf(image, [{ hostOffset: 112, bytes: Uint8Array.from(extension) }])).overview();
    expect(changedFields(inspect(sourceOf(image)).overview(), grown)).toContain('extension.1');
  });
});
