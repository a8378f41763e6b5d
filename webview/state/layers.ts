import type { LayerTranslation } from '../../src/protocol/inspect';

/** Layers shown before those that hold nothing are left out. */
const MANY = 8;

/** Of a deep chain, the active layer and those that hold something at a place; of a short one, all. */
export function worthShowing(layers: readonly LayerTranslation[]): readonly LayerTranslation[] {
  return layers.length <= MANY
    ? layers
    : layers.filter(({ depth, class: kind, supplies }) => depth === 0 || supplies || kind !== 'unallocated');
}
