import type { Awaitable } from '../../../src/engine/awaitable';
import { EngineError } from '../../../src/engine/errors';
import { readBitmapDirectory } from '../../../src/engine/formats/qcow2/bitmaps';
import { addBitmap } from '../../../src/engine/formats/qcow2/manage/bitmaps';
import { createQcow2 } from '../../../src/engine/formats/qcow2/manage/create';
import type { Qcow2CreateOptions } from '../../../src/engine/formats/qcow2/manage/createOptions';
import { QuietImage } from '../../../src/engine/formats/qcow2/manage/quietImage';
import { createSnapshot } from '../../../src/engine/formats/qcow2/manage/snapshots';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { readSnapshotTable } from '../../../src/engine/formats/qcow2/snapshots';
import { loadL1, loadRefcountTable, loadTable } from '../../../src/engine/formats/qcow2/tables';
import { Qcow2Node } from '../../../src/engine/formats/qcow2/write/qcow2Node';
import type { Storage } from '../../../src/engine/io/storage';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import type { Random } from '../../interop/random';

/* A sound image with one of everything, what lies where in it, and ways to damage it. */

export const CLUSTER = 4096;
const ENTRIES = CLUSTER / 8;
/** Two L2 tables and a part of a third. */
export const DISK = 2 * ENTRIES * CLUSTER + 10 * CLUSTER + 512;
/** Guest clusters of the first L2 table that only the guest's disk uses; the ones after them are a snapshot's as well. */
export const OWN_CLUSTERS = 4;
const COPIED = 2n ** 63n;
/** The guest cluster whose entry is damaged. */
const VICTIM = 1;

/** No file of a test gets longer; a file system has such a limit too. */
const LONGEST = 64 * 1024 * 1024;

/** A file that cannot become longer than a file system would have it. */
export class BoundedStorage extends MemoryStorage {
  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    this.require(hostOffset + bytes.length);
    return super.write(bytes, hostOffset);
  }

  override writeZeroes(hostOffset: number, length: number): Awaitable<void> {
    this.require(hostOffset + length);
    return super.writeZeroes(hostOffset, length);
  }

  override truncate(size: number): Awaitable<void> {
    this.require(size);
    return super.truncate(size);
  }

  private require(end: number): void {
    if (end > LONGEST) {
      throw new EngineError('file.io', `${this.name}: File too large`, { file: this.name });
    }
  }
}

/** Byte offsets of structures in a file. */
export interface Layout {
  readonly l1: number;
  readonly l2: readonly number[];
  readonly refcountTable: number;
  readonly refcountBlock: number;
  readonly snapshotTable: number;
  readonly inactiveL1: number;
  readonly inactiveL2: number;
  readonly bitmapDirectory: number;
  readonly bitmapTable: number;
  readonly bitmapBits: number;
  /** The host cluster of the damaged entry, before. */
  readonly own: number;
}

export interface SoundImage {
  readonly bytes: Uint8Array;
  readonly layout: Layout;
}

export async function soundImage(options: Partial<Qcow2CreateOptions> = {}): Promise<SoundImage> {
  const storage = new MemoryStorage();
  await createQcow2(storage, { size: DISK, cluster_size: CLUSTER, ...options });
  const write = async (clusters: readonly number[], fill: number): Promise<void> => {
    const node = await Qcow2Node.open({ storage: keptOpen(storage), backing: null, nodeName: 'image', readOnly: false });
    for (const cluster of clusters) {
      await node.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(fill));
    }
    await node.close();
  };
  await write([0, 1, 2, 3, 4, 5, ENTRIES + 1], 0x11);
  const image = QuietImage.open(storage);
  await createSnapshot(image, { name: 'kept', date: new Date(0) });
  if (options.compat !== '0.10') {
    await addBitmap(image, { name: 'changes', granularity: 512 });
  }
  await image.flush();
  await write([...Array.from({ length: OWN_CLUSTERS }, (_, i) => i), 2 * ENTRIES], 0x22);
  const { bytes } = storage;
  return { bytes, layout: layoutOf(bytes) };
}

/** The file stays open for the next one. */
function keptOpen(storage: Storage): Storage {
  return new Proxy(storage, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

function layoutOf(bytes: Uint8Array): Layout {
  const metadata = readQcow2Metadata(new MemoryStorage(bytes));
  const l1 = loadL1(metadata, { hostOffset: metadata.l1TableOffset, entries: metadata.l1Size });
  const [snapshot] = readSnapshotTable(metadata).snapshots;
  const kept = loadL1(metadata, { hostOffset: snapshot!.l1TableOffset, entries: snapshot!.l1Size });
  const directory = readBitmapDirectory(metadata);
  const tableOffset = directory.bitmaps[0]?.tableOffset ?? 0;
  const bits = tableOffset > 0 ? loadTable(metadata, tableOffset, directory.bitmaps[0]!.tableEntries * 8, CLUSTER) : null;
  return {
    l1: metadata.l1TableOffset,
    l2: [0, 1, 2].map((index) => l1.hostOffsetAt(index)),
    refcountTable: metadata.refcountTableOffset,
    refcountBlock: loadRefcountTable(metadata).hostOffsetAt(0),
    snapshotTable: metadata.snapshotsOffset,
    inactiveL1: snapshot!.l1TableOffset,
    inactiveL2: kept.hostOffsetAt(0),
    bitmapDirectory: directory.directoryOffset,
    bitmapTable: tableOffset,
    bitmapBits: bits?.hostOffsetAt(0) ?? 0,
    own: Number(new DataView(bytes.buffer).getBigUint64(l1.hostOffsetAt(0) + VICTIM * 8) & ~COPIED),
  };
}

/** Every cluster of the file that holds metadata, as the file's own tables say. Nothing in it is believed that lies past its end. */
export function metadataClusters(bytes: Uint8Array): Set<number> {
  const metadata = readQcow2Metadata(new MemoryStorage(bytes));
  const { clusterSize } = metadata;
  const clusters = new Set<number>();
  const add = (hostOffset: number, length: number): void => {
    for (let at = Math.floor(hostOffset / clusterSize); at * clusterSize < Math.min(hostOffset + length, bytes.length); at++) {
      clusters.add(at);
    }
  };
  const addTable = (hostOffset: number, entries: number, flags = true): void => {
    const table = loadTable(metadata, hostOffset, entries * 8, 2 ** 20);
    add(hostOffset, table.length * 8);
    for (let index = 0; index < table.length; index++) {
      const target = table.hostOffsetAt(index);
      // The refcount table has no flags: what stands in their place leads further than any file.
      if (target !== 0 && target % clusterSize === 0 && (flags || table.high(index) >>> 24 === 0)) {
        add(target, clusterSize);
      }
    }
  };
  add(0, 1);
  addTable(metadata.l1TableOffset, metadata.l1Size);
  addTable(metadata.refcountTableOffset, (metadata.refcountTableClusters * clusterSize) / 8, false);
  const { snapshots, length } = readSnapshotTable(metadata);
  add(metadata.snapshotsOffset, length);
  for (const { l1TableOffset, l1Size } of snapshots) {
    addTable(l1TableOffset, l1Size);
  }
  const { directoryOffset, directorySize, bitmaps } = readBitmapDirectory(metadata);
  add(directoryOffset, directorySize);
  for (const { tableOffset, tableEntries } of bitmaps) {
    addTable(tableOffset, tableEntries);
  }
  return clusters;
}

/** Words of an image's metadata, and what a hostile hand may put there. */
export function damageAtRandom(random: Random, { bytes, layout }: SoundImage): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const { l2, ...others } = layout;
  const places = [...l2, ...Object.values(others)];
  const pickPlace = (): bigint => BigInt(random.pick(places)! + (random.chance(0.1) ? 512 : 0));
  for (let count = random.between(1, 5); count > 0; count--) {
    const table = random.pick([layout.l1, layout.l1, ...layout.l2, ...layout.l2, layout.refcountTable, layout.refcountBlock, ...places]);
    const at = table + random.below(random.chance(0.7) ? 6 : ENTRIES) * 8;
    const flags = random.pick([0n, COPIED, COPIED, COPIED | 1n, 1n, 2n ** 62n, 2n ** 62n + 2n ** 57n] as const);
    const draw = random.below(10);
    const end = BigInt(Math.ceil(bytes.length / CLUSTER) * CLUSTER);
    const value =
      draw < 5
        ? flags | pickPlace()
        : draw < 6
          ? flags | (end + BigInt(random.below(20) * CLUSTER))
          : draw < 7
            ? 0n
            : draw < 8
              ? flags | BigInt(random.below(100) * CLUSTER)
              : draw < 9
                ? (BigInt(random.bits()) << 32n) | BigInt(random.bits())
                : flags | (2n ** BigInt(random.between(30, 63)));
    view.setBigUint64(at, BigInt.asUintN(64, value));
  }
  for (let count = random.chance(0.4) ? random.between(1, 8) : 0; count > 0; count--) {
    view.setUint16(layout.refcountBlock + random.below(30) * 2, random.below(3));
  }
  return copy;
}

/** What a program does that meets the damage. */
export type Request = 'write' | 'part' | 'zeroes' | 'discard' | 'compressed' | 'read' | 'grow';

export interface Damage {
  readonly name: string;
  readonly options?: Partial<Qcow2CreateOptions>;
  /** Changes bytes of the sound image. */
  readonly damage: (view: DataView, layout: Layout) => void;
  /** The guest cluster that a request goes to; the one whose entry is damaged when left out. */
  readonly cluster?: number;
  readonly requests: readonly Request[];
  /** What the error names. */
  readonly structure: string;
  readonly hostOffset: (layout: Layout) => number;
  /** It is met when the guest's entry is on the disk and what it led to before is given up. */
  readonly late?: boolean;
  /** Why QEMU goes on where nothing is written here any more; left out where it stops too. */
  readonly qemu?: string;
}

const entryOf = (layout: Layout, cluster: number): number => layout.l2[Math.floor(cluster / ENTRIES)]! + (cluster % ENTRIES) * 8;

function putWord(view: DataView, hostOffset: number, value: bigint): void {
  view.setBigUint64(hostOffset, value);
}

function putRefcount(view: DataView, layout: Layout, hostOffset: number, refcount: number): void {
  view.setUint16(layout.refcountBlock + (hostOffset / CLUSTER) * 2, refcount);
}

/** The first cluster that is free, then. */
function countAsFree(view: DataView, layout: Layout, hostOffset: number): void {
  for (let at = 0; at < hostOffset; at += CLUSTER) {
    const entry = layout.refcountBlock + (at / CLUSTER) * 2;
    view.setUint16(entry, Math.max(1, view.getUint16(entry)));
  }
  putRefcount(view, layout, hostOffset, 0);
}

const TARGETS: readonly { readonly key: Exclude<keyof Layout, 'l2'> | 'l2'; readonly title: string; readonly qemu?: string }[] = [
  { key: 'l1', title: 'active L1 table' },
  { key: 'l2', title: 'active L2 table' },
  { key: 'refcountTable', title: 'refcount table' },
  { key: 'refcountBlock', title: 'refcount block' },
  { key: 'snapshotTable', title: 'snapshot table' },
  { key: 'inactiveL1', title: 'inactive L1 table' },
  { key: 'inactiveL2', title: 'inactive L2 table', qemu: 'It does not look for tables of snapshots unless it is told to.' },
  { key: 'bitmapDirectory', title: 'bitmap directory' },
  { key: 'bitmapTable', title: 'bitmap', qemu: 'It knows where the directory lies, not its tables.' },
  { key: 'bitmapBits', title: 'bitmap', qemu: 'It knows where the directory lies, not the bits.' },
];

function placeOf(layout: Layout, key: keyof Layout): number {
  const place = layout[key];
  return typeof place === 'number' ? place : place[1]!;
}

const FREES = 'It does not look at what is given up: the table is counted less, or its bytes given back.';
const EAGER = 'It stops when it writes one of the two; here no table is believed that has to share its place.';

export const DAMAGES: readonly Damage[] = [
  ...TARGETS.map(({ key, title, qemu }): Damage => ({
    name: `an L2 entry leads to the ${title} (${key})`,
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), COPIED | BigInt(placeOf(layout, key))),
    requests: ['write', 'part'],
    structure: title,
    hostOffset: (layout) => placeOf(layout, key),
    ...(qemu === undefined ? {} : { qemu }),
  })),
  ...TARGETS.map(({ key, title }): Damage => ({
    name: `an L2 entry leads to the ${title} (${key}) and gives it up`,
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), COPIED | BigInt(placeOf(layout, key))),
    requests: ['zeroes', 'discard', 'compressed'],
    structure: title,
    hostOffset: (layout) => placeOf(layout, key),
    qemu: FREES,
  })),
  ...TARGETS.map(({ key, title }): Damage => ({
    name: `an L2 entry without COPIED leads to the ${title} (${key})`,
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), BigInt(placeOf(layout, key))),
    requests: ['write', 'part'],
    structure: title,
    hostOffset: (layout) => placeOf(layout, key),
    ...(['l2', 'refcountBlock', 'inactiveL2', 'bitmapTable', 'bitmapBits'].includes(key) ? { qemu: FREES } : {}),
  })),
  ...TARGETS.filter(({ key }) => key !== 'l2').map(({ key, title }): Damage => ({
    name: `an L1 entry leads to the ${title} (${key})`,
    damage: (view, layout) => putWord(view, layout.l1, COPIED | BigInt(placeOf(layout, key))),
    requests: key === 'inactiveL2' ? ['part'] : ['write', 'zeroes', 'discard'],
    structure: key === 'inactiveL2' ? 'inactive L2 table' : key === 'l1' ? 'active L1 table' : 'active L2 table',
    hostOffset: (layout) => placeOf(layout, key) + (key === 'inactiveL2' ? VICTIM * 8 : 0),
    ...(['refcountTable', 'inactiveL2', 'bitmapTable', 'bitmapBits'].includes(key) ? { qemu: EAGER } : {}),
  })),
  ...TARGETS.filter(({ key }) => key !== 'refcountBlock').map(({ key }): Damage => ({
    name: `a refcount table entry leads to the ${key}`,
    damage: (view, layout) => putWord(view, layout.refcountTable, BigInt(placeOf(layout, key))),
    cluster: 100,
    requests: ['write'],
    structure:
      key === 'l1' ? 'active L1 table' : key === 'l2' ? 'active L2 table' : key === 'refcountTable' ? 'refcount table' : 'refcount block',
    hostOffset: (layout) => placeOf(layout, key),
  })),
  ...(['l1', 'l2', 'refcountTable', 'refcountBlock', 'snapshotTable', 'inactiveL1', 'inactiveL2', 'bitmapDirectory'] as const).map(
    (key): Damage => ({
      name: `the ${key} is counted as free`,
      damage: (view, layout) => countAsFree(view, layout, placeOf(layout, key)),
      cluster: 100,
      requests: ['write', 'part', 'compressed'],
      structure: TARGETS.find((target) => target.key === key)!.title,
      hostOffset: (layout) => placeOf(layout, key),
      ...(key === 'inactiveL2' ? { qemu: 'It does not look for tables of snapshots unless it is told to.' } : {}),
    }),
  ),
  {
    name: 'the last cluster, a part of which the disk has, lies in the active L1 table',
    damage: (view, layout) => putWord(view, entryOf(layout, 2 * ENTRIES + 10), COPIED | BigInt(layout.l1)),
    requests: ['grow'],
    structure: 'active L1 table',
    hostOffset: (layout) => layout.l1,
  },
  {
    name: 'the header is counted as free',
    damage: (view, layout) => countAsFree(view, layout, 0),
    cluster: 100,
    requests: ['write', 'compressed'],
    structure: 'qcow2 header',
    hostOffset: () => 0,
  },
  {
    name: 'two entries of the refcount table lead to one block',
    damage: (view, layout) => putWord(view, layout.refcountTable + 8, BigInt(layout.refcountBlock)),
    cluster: 100,
    requests: ['write', 'discard'],
    structure: 'refcount table entry',
    hostOffset: (layout) => layout.refcountTable + 8,
    qemu: 'It reads one block for both.',
  },
  {
    name: 'two entries of the L1 table lead to one L2 table',
    damage: (view, layout) => putWord(view, layout.l1 + 8, COPIED | BigInt(layout.l2[0]!)),
    requests: ['write', 'discard'],
    structure: 'L1 table entry',
    hostOffset: (layout) => layout.l1 + 8,
    qemu: 'It reads and writes one table for both.',
  },
  {
    name: 'an L2 entry is not aligned',
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), COPIED | BigInt(placeOf(layout, 'l1') + 512)),
    requests: ['write', 'part', 'read'],
    structure: 'L2 table entry',
    hostOffset: (layout) => entryOf(layout, VICTIM),
  },
  {
    name: 'an L2 entry of zeroes is not aligned',
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), COPIED | BigInt(placeOf(layout, 'l1') + 512) | 1n),
    requests: ['write', 'read'],
    structure: 'L2 table entry',
    hostOffset: (layout) => entryOf(layout, VICTIM),
  },
  {
    name: 'an L1 entry is not aligned',
    damage: (view, layout) => putWord(view, layout.l1, COPIED | BigInt(layout.l2[0]! + 512)),
    requests: ['write', 'zeroes', 'read'],
    structure: 'L1 table entry',
    hostOffset: (layout) => layout.l1,
  },
  {
    name: 'a refcount table entry is not aligned',
    damage: (view, layout) => putWord(view, layout.refcountTable, BigInt(layout.refcountBlock + 512)),
    cluster: 100,
    requests: ['write'],
    structure: 'refcount table entry',
    hostOffset: (layout) => layout.refcountTable,
  },
  {
    name: 'an L2 entry leads past 2^53',
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), COPIED | (2n ** 55n)),
    requests: ['write', 'part', 'discard'],
    structure: 'L2 table entry',
    hostOffset: (layout) => entryOf(layout, VICTIM),
    qemu: 'It asks the file system, which refuses.',
  },
  {
    name: 'an L1 entry leads past 2^53',
    damage: (view, layout) => putWord(view, layout.l1, COPIED | (2n ** 55n)),
    requests: ['write', 'discard'],
    structure: 'L1 table entry',
    hostOffset: (layout) => layout.l1,
    qemu: 'It asks the file system, which refuses.',
  },
  {
    name: 'a refcount table entry leads past 2^53',
    damage: (view, layout) => putWord(view, layout.refcountTable, 2n ** 63n),
    cluster: 100,
    requests: ['write'],
    structure: 'refcount table entry',
    hostOffset: (layout) => layout.refcountTable,
    qemu: 'It asks the file system, which refuses.',
  },
  {
    name: "a snapshot's L1 table is the active one",
    damage: (view, layout) => putWord(view, layout.snapshotTable, BigInt(layout.l1)),
    requests: ['write', 'discard'],
    structure: 'active L1 table',
    hostOffset: (layout) => layout.l1,
    qemu: EAGER,
  },
  {
    name: 'the refcount table is the active L1 table',
    damage: (view, layout) => putWord(view, 48, BigInt(layout.l1)),
    requests: ['write', 'discard'],
    structure: 'active L1 table',
    hostOffset: (layout) => layout.l1,
    qemu: EAGER,
  },
  {
    name: 'a cluster of the guest is not counted',
    damage: (view, layout) => putRefcount(view, layout, layout.own, 0),
    requests: ['discard', 'compressed'],
    structure: 'refcount block',
    hostOffset: (layout) => layout.refcountBlock + (layout.own / CLUSTER) * 2,
    late: true,
    qemu: 'It says that freeing failed, and goes on.',
  },
  {
    name: 'version 2 marks a cluster of zeroes',
    options: { compat: '0.10' },
    damage: (view, layout) => putWord(view, entryOf(layout, VICTIM), 1n),
    requests: ['write', 'read'],
    structure: 'L2 table entry',
    hostOffset: (layout) => entryOf(layout, VICTIM),
  },
];

/** The damaged bytes, and where its request goes. */
export function damaged(
  { damage, cluster = VICTIM }: Damage,
  { bytes, layout }: SoundImage,
): { readonly bytes: Uint8Array; readonly guestOffset: number } {
  const copy = bytes.slice();
  damage(new DataView(copy.buffer), layout);
  return { bytes: copy, guestOffset: cluster * CLUSTER };
}
