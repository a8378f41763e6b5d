import type { Overview } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer } from '../../chain/layer';
import { exactSize, humanSize, visible } from '../wording';

export type Fact = Overview['facts'][number];

/** Facts in the words of `qemu-img info`, each with the place that says so. */
export class FactList {
  readonly facts: Fact[] = [];

  add(name: string, value: string | number | boolean, place: Place | null = null): this {
    this.facts.push({ name, value: visible(String(value)), place });
    return this;
  }

  addWhen(condition: boolean, name: string, value: string | number | boolean, place: Place | null = null): this {
    return condition ? this.add(name, value, place) : this;
  }
}

/** What every image has, in qemu-img's order. */
export function commonFacts(
  layer: Layer,
  places: { readonly size?: Place; readonly clusterSize?: Place },
  clusterSize: number | null,
): FactList {
  const list = new FactList()
    .add('image', layer.path)
    .add('file format', layer.detail.format)
    .add('virtual size', exactSize(layer.virtualSize), places.size)
    .add('disk size', humanSize(layer.source.allocatedBytes));
  if (clusterSize !== null) {
    list.add('cluster_size', clusterSize, places.clusterSize);
  }
  return list;
}
