import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import type { Random } from '../../interop/random';

export interface DamagedImage {
  readonly file: Uint8Array;
  readonly describe: string;
}

/** A small image of any kind that the builder can make, as the bytes of its file. */
export function randomImage(random: Random): DamagedImage {
  const clusterBits = random.pick([9, 9, 10, 12, 14]);
  const clusterSize = 2 ** clusterBits;
  const version = random.chance(0.2) ? 2 : 3;
  const refcountOrder = version === 2 ? 4 : random.pick([0, 1, 2, 3, 4, 4, 4, 5, 6]);
  const extendedL2 = version === 3 && clusterBits >= 14 && random.chance(0.6);
  const guestClusters = random.between(1, 300);
  const size = guestClusters * clusterSize - (random.chance(0.3) ? 512 * random.below(clusterSize / 512) : 0);
  const builder = new Qcow2Builder({ size, version, clusterBits, refcountOrder, extendedL2 });
  const contents = (): Uint8Array => Uint8Array.from({ length: random.between(1, clusterSize) }, (_, i) => (i * 7 + random.seed) & 255);
  // A refcount of one bit or two cannot count snapshots.
  const snapshots = refcountOrder >= 3 ? random.below(3) : 0;
  for (let step = 0; step <= snapshots; step++) {
    for (let count = random.between(0, guestClusters); count > 0; count--) {
      const cluster = random.chance(0.7) ? random.below(Math.min(guestClusters, 20)) : random.below(guestClusters);
      switch (random.below(6)) {
        case 0:
          if (version === 3) {
            builder.zero(cluster, random.chance(0.4));
          }
          break;
        case 1:
          builder.discard(cluster);
          break;
        case 2:
          builder.writeCompressed(cluster, contents());
          break;
        case 3:
          if (extendedL2) {
            builder.writeSubclusters(cluster, contents(), 0x0000ffff, 0xff000000);
            break;
          }
          builder.write(cluster, contents());
          break;
        default:
          builder.write(cluster, contents());
      }
    }
    if (step < snapshots) {
      builder.snapshot({ id: `${step + 1}`, name: `s${step}`, dateSec: 1, uptimeSec: 1 });
    }
  }
  if (version === 3 && random.chance(0.3)) {
    builder.bitmap({ name: 'b', granularityBits: 9, flags: 0, dirty: [{ offset: 0, length: Math.min(size, 70_000) }] });
  }
  const image = builder.build();
  const file = new Uint8Array(image.layout.fileSize);
  for (const { hostOffset, bytes } of image.pieces) {
    file.set(bytes, hostOffset);
  }
  return { file, describe: JSON.stringify({ clusterBits, version, refcountOrder, extendedL2, size, snapshots }) };
}

/** Breaks words of the tables of an image, mostly in ways that leave it openable. */
export function damage(random: Random, { file, describe }: DamagedImage): DamagedImage {
  const view = new DataView(file.buffer);
  const clusterSize = 2 ** view.getUint32(20);
  const done: string[] = [];
  const offsets = tableWords(view, file.length, clusterSize);
  for (let count = random.between(1, 4); count > 0; count--) {
    const at = random.pick(offsets) ?? 0;
    const before = view.getBigUint64(at);
    const target = BigInt(random.below(file.length / clusterSize + 2)) * BigInt(clusterSize);
    const flags = random.pick([0n, 1n << 63n, 1n << 63n, 1n, 1n << 62n, (1n << 62n) | (7n << 55n) | 77n]);
    const after = BigInt.asUintN(
      64,
      random.pick([
        0n,
        before ^ (1n << BigInt(random.below(64))),
        before ^ (1n << 63n),
        target | flags,
        target + 512n,
        before + 512n,
        view.getBigUint64(random.pick(offsets) ?? 0),
      ]),
    );
    view.setBigUint64(at, after);
    done.push(`0x${at.toString(16)}: ${before.toString(16)} -> ${after.toString(16)}`);
  }
  if (random.chance(0.15)) {
    const length = Math.max(clusterSize, file.length - random.below(clusterSize * 3));
    done.push(`cut to ${length}`);
    return { file: file.slice(0, length), describe: `${describe}\n${done.join('\n')}` };
  }
  return { file, describe: `${describe}\n${done.join('\n')}` };
}

/** Where words of tables stand: L1, L2, refcount table, refcount blocks, snapshots. */
function tableWords(view: DataView, length: number, clusterSize: number): number[] {
  const words: number[] = [];
  const add = (offset: number, bytes: number): void => {
    for (let at = offset; at < Math.min(offset + bytes, length - 7); at += 8) {
      words.push(at);
    }
  };
  const number = (at: number): number => Number(view.getBigUint64(at) & 0x00fffffffffffe00n);
  const l1 = number(40);
  add(l1, view.getUint32(36) * 8);
  for (let i = 0; i < view.getUint32(36); i++) {
    const l2 = number(l1 + i * 8);
    if (l2 > 0 && l2 < length) {
      // What is used stands at the front in a small image.
      add(l2, Math.min(clusterSize, 400));
      add(l2, Math.min(clusterSize, 160));
    }
  }
  const refcounts = number(48);
  add(refcounts, 24);
  add(number(refcounts), Math.min(clusterSize, 600));
  if (view.getUint32(60) > 0) {
    const snapshot = number(64);
    add(snapshot, 48);
    add(number(snapshot), 32);
  }
  return words;
}
