/**
 * How QEMU numbers the clusters of a QED file when it checks it: it divides offsets by cluster_size - 1 instead of cluster_size. Cluster k
 * gets slot k + floor(k / (cluster_size - 1)), so that after every cluster_size - 1 clusters one slot stands for no cluster at all, and
 * is counted as a leak: one for each 4 GiB of file with 64 KiB clusters, one for each 16 MiB with 4 KiB clusters. A table takes
 * consecutive slots, the empty one among them; its last cluster is then counted as a leak in the empty slot's place.
 *
 * A count that equals QEMU's has to follow. Nothing of this says anything about the image.
 */
export class QedSlots {
  /** Slots of the whole file. */
  readonly total: number;
  /** How many of them stand for no cluster. */
  readonly empty: number;
  private readonly clusterSize: number;

  constructor(fileClusters: number, clusterSize: number) {
    this.clusterSize = clusterSize;
    this.total = this.of(fileClusters);
    this.empty = Math.floor(this.total / clusterSize);
  }

  of(cluster: number): number {
    return cluster + Math.floor(cluster / (this.clusterSize - 1));
  }

  /** The cluster that a slot stands for, -1 for an empty one. */
  clusterAt(slot: number): number {
    return (slot + 1) % this.clusterSize === 0 ? -1 : slot - Math.floor(slot / this.clusterSize);
  }

  /** The number of an empty slot among the empty ones. */
  emptyIndex(slot: number): number {
    return (slot + 1) / this.clusterSize - 1;
  }
}
