import * as fs from 'node:fs';

import { encode } from '../../src/engine/layout/codec';
import { EXTENSION, EXTENSION_HEADER, QCOW2_HEADER, QCOW2_MAGIC } from '../../src/engine/formats/qcow2/structures';
import { Scatter } from '../../src/engine/sample/contents';

/** A qcow2 image too large to be written by a guest in a benchmark's time: real metadata, data clusters that are holes. */
export interface LargeImage {
  /** Virtual size in bytes. */
  readonly size: number;
  /** Share of guest clusters that are mapped, 0..1. */
  readonly share: number;
  /** Mapped clusters come in runs of this many. */
  readonly run: number;
  /** Host clusters in random order, L2 tables among them; else all in sequence, as preallocation lays them out. */
  readonly scattered: boolean;
  readonly backing?: string;
  readonly seed: number;
}

const CLUSTER = 65536;
const L2_ENTRIES = CLUSTER / 8;
const REFCOUNTS = CLUSTER / 2;
const COPIED = 0x80000000;

/** Writes a consistent version 3 image with 64 KiB clusters and 16-bit refcounts. Needs 6 bytes of memory for each guest cluster. */
export function writeLargeQcow2(file: string, image: LargeImage): void {
  const clusters = Math.ceil(image.size / CLUSTER);
  const l1Size = Math.ceil(clusters / L2_ENTRIES);
  const scatter = new Scatter(image.seed);
  const mapped = new Uint8Array(clusters);
  for (let start = 0; start < clusters; start += image.run) {
    if (image.share >= 1 || scatter.below(10_000) < image.share * 10_000) {
      mapped.fill(1, start, start + image.run);
    }
  }
  const dataClusters = mapped.reduce((sum, bit) => sum + bit, 0);
  const l1Clusters = Math.ceil((l1Size * 8) / CLUSTER);
  let blocks = 0;
  let total = 0;
  for (let needed = 1; needed !== blocks;) {
    blocks = needed;
    total = 1 + l1Clusters + 1 + blocks + l1Size + dataClusters;
    needed = Math.ceil(total / REFCOUNTS);
  }
  const l1At = 1;
  const tableAt = l1At + l1Clusters;
  const blocksAt = tableAt + 1;
  const order = hostOrder(blocksAt + blocks, l1Size + dataClusters, image.scattered ? scatter : null);

  const fd = fs.openSync(file, 'wx');
  try {
    fs.ftruncateSync(fd, total * CLUSTER);
    fs.writeSync(fd, header(image, l1Size, l1At, tableAt));
    const l1 = new DataView(new ArrayBuffer(l1Clusters * CLUSTER));
    let next = l1Size;
    for (let index = 0; index < l1Size; index++) {
      const table = new DataView(new ArrayBuffer(CLUSTER));
      const first = index * L2_ENTRIES;
      for (let slot = 0; slot < L2_ENTRIES && first + slot < clusters; slot++) {
        if (mapped[first + slot] === 1) {
          setEntry(table, slot, order[next++]! * CLUSTER);
        }
      }
      setEntry(l1, index, order[index]! * CLUSTER);
      fs.writeSync(fd, new Uint8Array(table.buffer), 0, CLUSTER, order[index]! * CLUSTER);
    }
    fs.writeSync(fd, new Uint8Array(l1.buffer), 0, l1.byteLength, l1At * CLUSTER);
    writeRefcounts(fd, tableAt, blocksAt, blocks, total);
  } finally {
    fs.closeSync(fd);
  }
}

function hostOrder(first: number, count: number, scatter: Scatter | null): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, index) => first + index);
  for (let index = count - 1; scatter && index > 0; index--) {
    const other = scatter.below(index + 1);
    [order[index], order[other]] = [order[other]!, order[index]!];
  }
  return order;
}

function setEntry(table: DataView, index: number, hostOffset: number): void {
  table.setUint32(index * 8, (COPIED | Math.floor(hostOffset / 2 ** 32)) >>> 0);
  table.setUint32(index * 8 + 4, hostOffset % 2 ** 32);
}

function writeRefcounts(fd: number, tableAt: number, blocksAt: number, blocks: number, total: number): void {
  const table = new DataView(new ArrayBuffer(CLUSTER));
  const block = Buffer.alloc(CLUSTER);
  for (let index = 0; index < blocks; index++) {
    table.setBigUint64(index * 8, BigInt((blocksAt + index) * CLUSTER));
    const used = Math.min(REFCOUNTS, total - index * REFCOUNTS);
    block.fill(0).fill('0001', 0, used * 2, 'hex');
    fs.writeSync(fd, block, 0, CLUSTER, (blocksAt + index) * CLUSTER);
  }
  fs.writeSync(fd, new Uint8Array(table.buffer), 0, CLUSTER, tableAt * CLUSTER);
}

function header(image: LargeImage, l1Size: number, l1At: number, tableAt: number): Uint8Array {
  const name = Buffer.from(image.backing ?? '');
  const format =
    image.backing === undefined ? [] : [encode(EXTENSION_HEADER, { type: EXTENSION.backingFormat, length: 5 }), Buffer.from('qcow2\0\0\0')];
  const extensions = Buffer.concat([...format, encode(EXTENSION_HEADER, { type: EXTENSION.end })]);
  const fixed = encode(QCOW2_HEADER, {
    magic: QCOW2_MAGIC,
    version: 3,
    backing_file_offset: name.length === 0 ? 0 : QCOW2_HEADER.length + extensions.length,
    backing_file_size: name.length,
    cluster_bits: 16,
    size: image.size,
    l1_size: l1Size,
    l1_table_offset: l1At * CLUSTER,
    refcount_table_offset: tableAt * CLUSTER,
    refcount_table_clusters: 1,
    refcount_order: 4,
    header_length: QCOW2_HEADER.length,
  });
  return Buffer.concat([fixed, extensions, name]);
}
