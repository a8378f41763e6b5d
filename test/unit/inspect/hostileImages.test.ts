import { describe, expect, it } from 'vitest';

import { EngineError } from '../../../src/engine/errors';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { QCOW2_HEADER } from '../../../src/engine/formats/qcow2/structures';
import { QED_HEADER } from '../../../src/engine/formats/qed/structures';
import { VMDK_SPARSE_HEADER } from '../../../src/engine/formats/vmdk/structures';
import { fieldLength } from '../../../src/engine/layout/fields';
import { DUMP_NAMES, dumpStructure } from '../../../src/engine/inspect/dump';
import type { Inspector } from '../../../src/engine/inspect/inspector';
import type { ImageFormat } from '../../../src/protocol/chain';
import type { LayerView, TableId } from '../../../src/protocol/place';
import { Random, testCases, testSeed } from '../../interop/random';
import { bigEndian, inspect, SparseSource } from './memory';

/** Nothing that a small file says may keep the inspector busy for longer: milliseconds of the processor, whatever else it does. */
const PATIENCE = 8000;

const INTERESTING = [0, 1, 511, 512, 4096, 65535, 65536, 2 ** 31, 2 ** 32 - 1, 2 ** 40, 2 ** 53 - 1];

/** Everything that the editor and the command line ask of an image. */
async function askEverything(inspector: Inspector): Promise<void> {
  const { active } = { active: { kind: 'active' } as LayerView };
  const views: LayerView[] = [active, { kind: 'snapshot', index: 0 }];
  inspector.overview();
  await lenient(() => inspector.snapshotsAndBitmaps());
  for (const view of views) {
    const shapes = await lenient(() => inspector.tableShapes(view));
    for (const { table, rows } of shapes ?? []) {
      expect(Number.isSafeInteger(rows)).toBe(true);
      await askTable(inspector, table, rows);
    }
    for (const offset of INTERESTING) {
      for (const space of ['guest', 'host'] as const) {
        await lenient(() => inspector.inspectCluster({ space, offset, view }));
        await lenient(() => inspector.locate(`${offset}`, space));
      }
    }
  }
  for (const offset of INTERESTING) {
    const page = await lenient(() => inspector.hex(offset, 5000));
    const regions = page?.regions ?? [];
    // Regions cover the page, one after the other.
    let at = offset;
    for (const { hostOffset, length } of regions) {
      expect(hostOffset).toBe(at);
      expect(length).toBeGreaterThan(0);
      at += length;
    }
    expect(at).toBe(offset + (page?.bytes.length ?? 0));
  }
  for (const name of DUMP_NAMES) {
    await lenient(async () => {
      let pieces = 0;
      for await (const text of dumpStructure(inspector, { name, index: null }, { json: true })) {
        expect(text).toBeTypeOf('string');
        if (++pieces === 20) {
          break;
        }
      }
    });
  }
  await lenient(() => inspector.findBytes(Uint8Array.of(1, 2, 3), 0));
}

async function askTable(inspector: Inspector, table: TableId, rows: number): Promise<void> {
  for (const first of [0, Math.floor(rows / 2), Math.max(0, rows - 20)]) {
    for (const row of inspector.tablePage({ table, first, count: 20 }).rows) {
      expect(row.targetOffset === null || Number.isSafeInteger(row.targetOffset)).toBe(true);
      expect(row.guestOffset === null || Number.isSafeInteger(row.guestOffset)).toBe(true);
    }
  }
  await lenient(() => inspector.nextUsedRow(table, -1, false));
  await lenient(() => inspector.nextUsedRow(table, rows, true));
  await lenient(() => inspector.nextUsedRow(table, Math.floor(rows / 3), false));
}

/** What a person caused or a file says may be refused, with a code; anything else is a bug. */
async function lenient<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof EngineError && error.code !== 'cancelled') {
      expect(error.message).not.toMatch(/NaN|Infinity|undefined/);
      return null;
    }
    throw error;
  }
}

async function survives(bytes: Uint8Array, format: ImageFormat, size = bytes.length): Promise<void> {
  const begin = process.cpuUsage();
  await askEverything(inspect(new SparseSource([{ hostOffset: 0, bytes }], size), format));
  const { user, system } = process.cpuUsage(begin);
  expect((user + system) / 1000).toBeLessThan(PATIENCE);
}

/** A small image with some of everything. */
function sampleBytes(random: Random): Uint8Array {
  const clusterBits = random.pick([9, 10, 12, 14, 16]);
  const extendedL2 = clusterBits >= 14 && random.chance(0.5);
  const builder = new Qcow2Builder({
    clusterBits,
    extendedL2,
    size: random.between(1, 300) * 2 ** clusterBits,
    refcountOrder: random.between(4, 6),
    compression: random.chance(0.5) ? 'zstd' : 'zlib',
    ...(random.chance(0.5) ? { backing: { name: 'base', format: 'raw' } } : {}),
  });
  const contents = new Uint8Array(2 ** clusterBits).fill(random.bits());
  for (let step = 0; step < 12; step++) {
    const cluster = random.below(40);
    switch (random.below(4)) {
      case 0:
        builder.write(cluster, contents);
        break;
      case 1:
        builder.writeCompressed(cluster, contents);
        break;
      case 2:
        builder.zero(cluster, random.chance(0.5));
        break;
      case 3:
        builder.snapshot({ id: `${step}`, name: `snap\u001b${step}`, dateSec: step, uptimeSec: 1 });
        break;
    }
  }
  builder.bitmap({ name: 'bits', granularityBits: 9, flags: 0, dirty: [{ offset: 0, length: 4096 }] });
  return flatten(builder.build());
}

function flatten({ pieces, layout }: ReturnType<Qcow2Builder['build']>): Uint8Array {
  const bytes = new Uint8Array(layout.fileSize);
  for (const piece of pieces) {
    bytes.set(piece.bytes, piece.hostOffset);
  }
  return bytes;
}

const random = new Random(testSeed());

describe(`hostile images (CHAINSCOPE_SEED=${random.seed})`, () => {
  it('may be random bytes behind any magic', async () => {
    const magics: readonly (readonly [ImageFormat, readonly number[]])[] = [
      ['qcow2', [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]],
      ['qcow2', [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 2]],
      ['qcow2', []],
      ['qed', [0x51, 0x45, 0x44, 0]],
      ['vmdk', [0x4b, 0x44, 0x4d, 0x56]],
      ['vmdk', []],
      ['raw', []],
    ];
    for (const [format, magic] of magics) {
      for (let round = 0; round < testCases(6); round++) {
        const bytes = Uint8Array.from({ length: random.below(70_000) }, () => random.bits());
        bytes.set(magic.slice(0, bytes.length));
        if (format === 'qcow2' && bytes.length > 24) {
          // With valid cluster bits the tables are looked at, too.
          bytes.set(bigEndian(random.between(9, 21), 4), 20);
        }
        await survives(bytes, format);
      }
    }
  });

  it('may be cut anywhere', async () => {
    for (let round = 0; round < testCases(12); round++) {
      const bytes = sampleBytes(random);
      const cut = random.chance(0.3) ? random.below(200) : random.below(bytes.length);
      await survives(bytes.subarray(0, cut), 'qcow2');
    }
  });

  it('may have bytes changed anywhere, mostly in their tables', async () => {
    for (let round = 0; round < testCases(25); round++) {
      const bytes = sampleBytes(random);
      for (let change = random.between(1, 30); change > 0; change--) {
        const at = random.chance(0.3) ? random.below(120) : random.below(bytes.length - 8);
        if (random.chance(0.5)) {
          bytes[at] = random.bits();
        } else {
          bytes.set(bigEndian((BigInt(random.bits()) << 32n) | BigInt(random.bits()), 8), at - (at % 8));
        }
      }
      await survives(bytes, 'qcow2');
    }
  });

  it('may have any header field at its extremes', async () => {
    const bytes = sampleBytes(new Random(7));
    const others: readonly (readonly [ImageFormat, typeof QED_HEADER | typeof VMDK_SPARSE_HEADER, Uint8Array])[] = [
      ['qed', QED_HEADER, qedBytes()],
      ['vmdk', VMDK_SPARSE_HEADER, vmdkBytes()],
    ];
    for (const [format, structure, base] of [['qcow2', QCOW2_HEADER, bytes] as const, ...others]) {
      for (const field of structure.fields) {
        const length = fieldLength(field);
        const width = BigInt(length * 8);
        const values = [0n, 1n, 2n ** (width - 1n), 2n ** width - 1n, 2n ** (width / 2n), 2n ** width - 512n, 0xfff0n];
        for (const value of values) {
          const changed = Uint8Array.from(base);
          const encoded = bigEndian(value & (2n ** width - 1n), length);
          changed.set(structure.order === 'big' ? encoded : encoded.reverse(), field.offset);
          await survives(changed, format);
        }
      }
    }
  });

  it('may claim to be 2^62 bytes long, in a file of holes', async () => {
    for (const size of [2n ** 62n, 2n ** 53n - 512n, 2n ** 53n, 2n ** 64n - 512n]) {
      const bytes = sampleBytes(new Random(8));
      bytes.set(bigEndian(size, 8), 24);
      bytes.set(bigEndian(0xffffffffn, 4), 36);
      await survives(bytes, 'qcow2', Number.MAX_SAFE_INTEGER);
    }
  });

  it('may have tables that point at themselves and at the header', async () => {
    const built = new Qcow2Builder({ size: 2 ** 24, clusterBits: 12 }).write(0, Uint8Array.of(1)).build();
    const { l1TableOffset, refcountTableOffset, fileSize } = built.layout;
    for (const target of [0, l1TableOffset, refcountTableOffset, fileSize, fileSize - 4096]) {
      for (const table of [l1TableOffset, refcountTableOffset]) {
        const bytes = flatten(built);
        for (let at = table; at < table + 4096; at += 8) {
          bytes.set(bigEndian(BigInt(target) | (1n << 63n), 8), at);
        }
        await survives(bytes, 'qcow2');
      }
    }
  });
});

function qedBytes(): Uint8Array {
  const bytes = new Uint8Array(65536);
  const header = new DataView(bytes.buffer);
  header.setUint32(0, 0x00444551, true);
  header.setUint32(4, 4096, true);
  header.setUint32(8, 1, true);
  header.setUint32(12, 1, true);
  header.setBigUint64(16, 1n, true);
  header.setBigUint64(40, 4096n, true);
  header.setBigUint64(48, 2n ** 24n, true);
  header.setUint32(56, 64, true);
  header.setUint32(60, 4, true);
  header.setBigUint64(4096, 8192n, true);
  header.setBigUint64(8192, 12288n, true);
  return bytes;
}

function vmdkBytes(): Uint8Array {
  const bytes = new Uint8Array(65536);
  const header = new DataView(bytes.buffer);
  header.setUint32(0, 0x564d444b, true);
  header.setUint32(4, 1, true);
  header.setBigUint64(12, 2048n, true);
  header.setBigUint64(20, 128n, true);
  header.setBigUint64(28, 1n, true);
  header.setBigUint64(36, 20n, true);
  bytes.set(new TextEncoder().encode('# Disk DescriptorFile\nversion=1\ncreateType="monolithicSparse"\nRW 2048 SPARSE "x.vmdk"\n'), 512);
  return bytes;
}
