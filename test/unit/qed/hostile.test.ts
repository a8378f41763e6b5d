import { describe, expect, it } from 'vitest';

import type { Awaitable } from '../../../src/engine/awaitable';
import { EngineError } from '../../../src/engine/errors';
import { createQed } from '../../../src/engine/formats/qed/create';
import { readQedMetadata } from '../../../src/engine/formats/qed/metadata';
import type { QedNode } from '../../../src/engine/formats/qed/qedNode';
import { Random, testCases, testSeed } from '../../interop/random';
import { MemorySource } from '../io/memorySource';
import { openQed } from './nodes';
import { TestStorage } from './testStorage';

const CLUSTER = 4096;
const TABLE = 2 * CLUSTER;
const COVERAGE = (TABLE / 8) * CLUSTER;
const SIZE = 3 * COVERAGE;
const GUEST = 0xa7;
/** Sees guest bytes by a run of these. */
const MARK = Buffer.alloc(64, GUEST);

/** An image with two L2 tables and some data; the third has no table. */
async function soundImage(): Promise<Uint8Array> {
  const storage = new TestStorage();
  await createQed(storage, { size: SIZE, cluster_size: CLUSTER, table_size: 2 });
  const node = await openQed(storage);
  for (const cluster of [0, 1, 2, 3, COVERAGE / CLUSTER]) {
    await node.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(0x11));
  }
  await node.close();
  return storage.bytes;
}

function l1Of(bytes: Uint8Array): number {
  return readQedMetadata(new MemorySource(bytes)).l1TableOffset;
}

function wordAt(bytes: Uint8Array, hostOffset: number): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(hostOffset, true));
}

/** Host offsets of the header's cluster and of all tables that the file's L1 table leads to. */
function metadataPlaces(bytes: Uint8Array, start = bytes): number[] {
  const l1 = l1Of(bytes);
  const places = [0, l1, l1 + CLUSTER];
  for (let index = 0; index < SIZE / COVERAGE; index++) {
    const table = wordAt(bytes, l1 + index * 8);
    // What led past the end at first stays without a table.
    const end = wordAt(start, l1 + index * 8) === table ? start.length : bytes.length;
    if (table !== 0 && table % CLUSTER === 0 && table + TABLE <= end) {
      places.push(table, table + CLUSTER);
    }
  }
  return places;
}

class WatchfulStorage extends TestStorage {
  readonly mistakes: string[] = [];
  private readonly start: Uint8Array;

  constructor(content: Uint8Array) {
    super(content);
    this.start = content.slice();
  }

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    if (hostOffset + bytes.length > 2 ** 30) {
      throw new EngineError('file.io', `${this.name}: File too large`, { file: this.name });
    }
    if (Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(MARK)) {
      const hit = metadataPlaces(this.bytes, this.start).find((place) => place < hostOffset + bytes.length && place + CLUSTER > hostOffset);
      if (hit !== undefined) {
        this.mistakes.push(`guest data is written at ${hostOffset}, to the metadata at ${hit}`);
      }
    }
    return super.write(bytes, hostOffset);
  }
}

async function outcome(work: () => unknown): Promise<EngineError | null> {
  try {
    await work();
    return null;
  } catch (error) {
    if (error instanceof EngineError) {
      return error;
    }
    throw error;
  }
}

describe('QED tables that contradict themselves, met while writing', () => {
  const cases: readonly {
    readonly name: string;
    readonly damage: (view: DataView, l1: number) => void;
    readonly structure: string;
    readonly hostOffset: (l1: number, bytes: Uint8Array) => number;
  }[] = [
    {
      name: 'an L2 entry leads to the header',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, 512n, true),
      structure: 'L2 table entry',
      hostOffset: (l1, bytes) => wordAt(bytes, l1) + 8,
    },
    {
      name: 'an L2 entry leads to the L1 table',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, BigInt(l1), true),
      structure: 'L1 table',
      hostOffset: (l1) => l1,
    },
    {
      name: 'an L2 entry leads to its own table',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, view.getBigUint64(l1, true), true),
      structure: 'L2 table',
      hostOffset: (l1, bytes) => wordAt(bytes, l1),
    },
    {
      name: 'an L2 entry leads to another table',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, view.getBigUint64(l1 + 8, true), true),
      structure: 'L2 table',
      hostOffset: (l1, bytes) => wordAt(bytes, l1 + 8),
    },
    {
      name: 'an L2 entry leads past the end of the file',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, 2n ** 40n, true),
      structure: 'L2 table entry',
      hostOffset: (l1, bytes) => wordAt(bytes, l1) + 8,
    },
    {
      name: 'an L2 entry leads past 2^53',
      damage: (view, l1) => view.setBigUint64(Number(view.getBigUint64(l1, true)) + 8, 2n ** 63n, true),
      structure: 'L2 table entry',
      hostOffset: (l1, bytes) => wordAt(bytes, l1) + 8,
    },
    {
      name: 'an L1 entry is not aligned',
      damage: (view, l1) => view.setBigUint64(l1, view.getBigUint64(l1, true) + 512n, true),
      structure: 'L1 table entry',
      hostOffset: (l1) => l1,
    },
    {
      name: 'an L1 entry leads past the end of the file',
      damage: (view, l1) => view.setBigUint64(l1, 2n ** 40n, true),
      structure: 'L1 table entry',
      hostOffset: (l1) => l1,
    },
    {
      name: 'two L1 entries lead to one table',
      damage: (view, l1) => view.setBigUint64(l1 + 8, view.getBigUint64(l1, true), true),
      structure: 'L2 table',
      hostOffset: (l1, bytes) => wordAt(bytes, l1),
    },
    {
      name: 'an L1 entry leads to the L1 table',
      damage: (view, l1) => view.setBigUint64(l1, BigInt(l1), true),
      structure: 'L2 table',
      hostOffset: (l1) => l1,
    },
  ];

  for (const { name, damage, structure, hostOffset } of cases) {
    for (const [request, ask] of [
      ['write', (node: QedNode) => node.write(CLUSTER, new Uint8Array(CLUSTER).fill(GUEST))],
      ['zeroes', (node: QedNode) => node.writeZeroes(CLUSTER, CLUSTER)],
    ] as const) {
      it(`${name}: ${request}`, async () => {
        const bytes = await soundImage();
        const l1 = l1Of(bytes);
        damage(new DataView(bytes.buffer, bytes.byteOffset), l1);
        const storage = new WatchfulStorage(bytes);
        const node = await openQed(storage);
        const error = await outcome(() => ask(node));
        expect({ code: error?.code, ...error?.place }).toMatchObject({
          code: 'image.corrupt',
          file: 'test.qed',
          structure,
          hostOffset: hostOffset(l1, bytes),
        });
        // Nothing is written any more, and nothing was.
        expect((await outcome(() => node.write(2 * CLUSTER, new Uint8Array(512))))?.code).toBe('image.corrupt');
        expect((await outcome(() => node.writeZeroes(2 * COVERAGE, CLUSTER)))?.code).toBe('image.corrupt');
        expect((await outcome(() => node.resize(SIZE + CLUSTER)))?.code).toBe('image.corrupt');
        await node.close();
        expect(Buffer.compare(storage.bytes, bytes)).toBe(0);
      });
    }
  }

  it('a table does not appear where an entry led when there was nothing', async () => {
    const bytes = await soundImage();
    const l1 = l1Of(bytes);
    // The next cluster that will be taken becomes guest data, not the table that this entry wants.
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(l1 + 16, BigInt(bytes.length), true);
    const storage = new WatchfulStorage(bytes);
    const node = await openQed(storage);
    await node.write(10 * CLUSTER, new Uint8Array(CLUSTER).fill(GUEST));
    const error = await outcome(() => node.write(2 * COVERAGE, new Uint8Array(512).fill(GUEST)));
    expect({ code: error?.code, ...error?.place }).toMatchObject({
      code: 'image.corrupt',
      structure: 'L1 table entry',
      hostOffset: l1 + 16,
    });
    const read = new Uint8Array(CLUSTER);
    await node.read(10 * CLUSTER, read);
    expect(read.every((byte) => byte === GUEST)).toBe(true);
    await node.close();
  });
});

describe('random damage of QED tables and random requests', () => {
  const seed = testSeed();

  it('never lets guest data reach tables, and fails with errors that say what is wrong', async () => {
    const sound = await soundImage();
    const l1 = l1Of(sound);
    const tables = [l1, wordAt(sound, l1), wordAt(sound, l1 + 8)];
    let corrupt = 0;
    let fine = 0;
    for (let i = 0; i < testCases(300); i++) {
      const random = new Random(seed + i);
      try {
        const bytes = sound.slice();
        const view = new DataView(bytes.buffer);
        for (let count = random.between(1, 4); count > 0; count--) {
          const at = random.pick(tables)! + random.below(6) * 8;
          const end = Math.ceil(bytes.length / CLUSTER) * CLUSTER;
          const value = random.pick([0, 1, random.pick(tables)!, random.below(20) * CLUSTER, end, end + CLUSTER, 512] as const);
          view.setBigUint64(at, random.chance(0.1) ? 2n ** BigInt(random.between(13, 63)) : BigInt(value), true);
        }
        const storage = new WatchfulStorage(bytes);
        const node = await openQed(storage);
        let error: EngineError | null = null;
        for (let step = 0; step < 20; step++) {
          const cluster = random.chance(0.5) ? random.below(6) : random.below(SIZE / CLUSTER);
          const offset = cluster * CLUSTER + random.pick([0, 512] as const);
          const length = Math.min(SIZE - offset, random.pick([512, CLUSTER, 3 * CLUSTER] as const));
          const draw = random.below(5);
          const failed = await outcome(() =>
            draw < 2
              ? node.write(offset, new Uint8Array(length).fill(GUEST))
              : draw === 2
                ? node.writeZeroes(offset, length)
                : draw === 3
                  ? node.read(offset, new Uint8Array(length))
                  : node.flush(),
          );
          error = failed ?? error;
        }
        error = (await outcome(() => node.close())) ?? error;
        corrupt += error?.code === 'image.corrupt' ? 1 : 0;
        fine += error === null ? 1 : 0;
        expect(storage.mistakes).toEqual([]);
      } catch (cause) {
        throw new Error(`CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1`, { cause });
      }
    }
    expect(testCases(300) < 300 || (corrupt > 20 && fine > 20)).toBe(true);
  });
});
