import { describe, expect, it } from 'vitest';
import { fileError } from '../../../src/engine/errors';
import { checkQcow2, type Qcow2CheckOptions } from '../../../src/engine/check/qcow2Check';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import type { ByteSource } from '../../../src/engine/io/source';
import { bigEndian, sourceOf } from '../inspect/memory';

const CLUSTER = 65536;
const ENTRIES = CLUSTER / 8;
const OPTIONS: Qcow2CheckOptions = { deep: false, maxFindings: 10 };

/**
 * A large image that exists only as a rule: header, L1 table and refcount table in the first clusters, then refcount blocks, then L2
 * tables, then data.
 */
class RuleSource implements ByteSource {
  readonly name = 'rule.qcow2';
  readonly size: number;
  readonly allocatedBytes = 0;
  private readonly tables: number;
  private readonly blocks: number;
  private readonly rule: { refcount(cluster: number): number; entry(guestCluster: number): bigint };

  constructor(tables: number, rule: RuleSource['rule']) {
    this.tables = tables;
    this.rule = rule;
    this.blocks = Math.ceil((tables * (ENTRIES + 2) + 100) / (CLUSTER / 2)) + 1;
    this.size = (this.firstData + tables * ENTRIES) * CLUSTER;
  }

  get firstTable(): number {
    return 3 + this.blocks;
  }

  get firstData(): number {
    return this.firstTable + this.tables;
  }

  /** The refcount that a sound image would have. */
  sound(cluster: number): number {
    return cluster < this.firstData + this.tables * ENTRIES ? 1 : 0;
  }

  read(target: Uint8Array, hostOffset: number): number {
    const length = Math.max(0, Math.min(target.length, this.size - hostOffset));
    for (let done = 0; done < length;) {
      const at = hostOffset + done;
      const part = target.subarray(done, Math.min(length, done + CLUSTER - (at % CLUSTER)));
      this.fill(part.fill(0), Math.floor(at / CLUSTER), at % CLUSTER);
      done += part.length;
    }
    return length;
  }

  extentAt(hostOffset: number): { length: number; data: boolean } {
    return { length: this.size - hostOffset, data: true };
  }

  close(): void {
    // Nothing is open.
  }

  private fill(target: Uint8Array, cluster: number, from: number): void {
    const view = new DataView(target.buffer, target.byteOffset, target.length);
    const words = (word: (index: number) => bigint): void => {
      for (let at = (8 - (from % 8)) % 8; at + 8 <= target.length; at += 8) {
        view.setBigUint64(at, word((from + at) / 8));
      }
    };
    if (cluster === 0) {
      const header = new Uint8Array(CLUSTER);
      const put = (at: number, value: number, length: number): void => {
        header.set(bigEndian(value, length), at);
      };
      put(0, 0x514649fb, 4);
      put(4, 3, 4);
      put(20, 16, 4);
      put(24, this.tables * ENTRIES * CLUSTER, 8);
      put(36, this.tables, 4);
      put(40, CLUSTER, 8);
      put(48, 2 * CLUSTER, 8);
      put(56, 1, 4);
      put(96, 4, 4);
      put(100, 104, 4);
      target.set(header.subarray(from, from + target.length));
    } else if (cluster === 1) {
      words((index) => (index < this.tables ? BigInt((this.firstTable + index) * CLUSTER) | (1n << 63n) : 0n));
    } else if (cluster === 2) {
      words((index) => (index < this.blocks ? BigInt((3 + index) * CLUSTER) : 0n));
    } else if (cluster < this.firstTable) {
      const first = (cluster - 3) * (CLUSTER / 2) + from / 2;
      for (let at = 0; at + 2 <= target.length; at += 2) {
        view.setUint16(at, this.rule.refcount(first + at / 2));
      }
    } else if (cluster < this.firstData) {
      words((index) => this.rule.entry((cluster - this.firstTable) * ENTRIES + index));
    }
  }
}

/** Runs a check and watches how far memory rises above where it was, in MiB. */
async function watched(source: RuleSource): Promise<{ report: Awaited<ReturnType<typeof checkQcow2>>; rise: number }> {
  const before = process.memoryUsage().rss;
  let highest = before;
  const onProgress = (): void => {
    highest = Math.max(highest, process.memoryUsage().rss);
  };
  const report = await checkQcow2(readQcow2Metadata(source), { ...OPTIONS, onProgress });
  return { report, rise: (highest - before) / 2 ** 20 };
}

describe('a hostile image costs bounded memory', () => {
  const TABLES = 256;
  const CLUSTERS = TABLES * ENTRIES;

  it('where each of two million clusters has two references', async () => {
    const source: RuleSource = new RuleSource(TABLES, {
      refcount: (cluster) => source.sound(cluster),
      entry: (guest) => BigInt((source.firstData + (guest % (CLUSTERS / 2))) * CLUSTER) | (1n << 63n),
    });
    const { report, rise } = await watched(source);
    expect(report.kinds).toEqual([
      { kind: 'refcountTooLow', category: 'corruption', count: CLUSTERS / 2 },
      { kind: 'leak', category: 'leak', count: CLUSTERS / 2 },
    ]);
    expect(rise).toBeLessThan(90);
  });

  it('where two million refcounts are large and COPIED is wrong everywhere', async () => {
    const source: RuleSource = new RuleSource(TABLES, {
      refcount: (cluster) => (cluster < source.firstData ? 1 : ((cluster * 7) % 65536) | 2),
      entry: (guest) => BigInt((source.firstData + guest) * CLUSTER) | (1n << 63n),
    });
    const { report, rise } = await watched(source);
    expect(report.counts).toMatchObject({ corruptions: CLUSTERS, allocatedClusters: CLUSTERS });
    // Refcounts run on past the end of the file, where nobody counts them.
    expect(report.counts.leaks).toBe(CLUSTERS);
    expect(report.findings.length).toBeLessThan(60);
    expect(rise).toBeLessThan(90);
  });
});

describe('a check under way', () => {
  const sound: RuleSource = new RuleSource(400, {
    refcount: (cluster) => sound.sound(cluster),
    entry: (guest) => BigInt((sound.firstData + guest) * CLUSTER) | (1n << 63n),
  });

  it('reports how far it is, never backwards, and ends at the whole', async () => {
    const steps: { done: number; total: number }[] = [];
    const report = await checkQcow2(readQcow2Metadata(sound), {
      ...OPTIONS,
      onProgress: (done, total) => {
        steps.push({ done, total });
      },
    });
    expect(report.kinds).toEqual([]);
    expect(steps.length).toBeGreaterThan(2);
    expect(steps.every(({ done, total }, i) => done <= total && done >= (steps[i - 1]?.done ?? 0))).toBe(true);
    expect(steps.at(-1)?.total).toBe(400 * CLUSTER);
  });

  it('stops when it is cancelled', async () => {
    const controller = new AbortController();
    const running = checkQcow2(readQcow2Metadata(sound), {
      ...OPTIONS,
      signal: controller.signal,
      onProgress: () => {
        controller.abort();
      },
    });
    await expect(running).rejects.toMatchObject({ code: 'cancelled' });
    await expect(checkQcow2(readQcow2Metadata(sound), { ...OPTIONS, signal: controller.signal })).rejects.toMatchObject({
      code: 'cancelled',
    });
  });
});

describe('a disk that cannot be read in places', () => {
  const image = new Qcow2Builder({ size: 64 * CLUSTER }).write(0, new Uint8Array(100).fill(1)).build();
  const { l2TableOffsets, l1TableOffset, refcountBlockOffsets } = image.layout;

  function broken(offset: number): ByteSource {
    const inner = sourceOf(image);
    return {
      name: 'broken.qcow2',
      size: inner.size,
      allocatedBytes: inner.allocatedBytes,
      extentAt: (hostOffset) => inner.extentAt(hostOffset),
      close: () => undefined,
      read(target, hostOffset) {
        if (offset < hostOffset + target.length && hostOffset <= offset) {
          throw fileError('broken.qcow2', 'Reading', Object.assign(new Error('bad sector'), { code: 'EIO' }));
        }
        return inner.read(target, hostOffset);
      },
    };
  }

  it.each([
    ['an L2 table', l2TableOffsets[0] ?? 0, 'L2 table'],
    ['the L1 table', l1TableOffset, 'L1 table'],
  ])('%s: QEMU gives up, the rest is still checked', async (_, offset, structure) => {
    const report = await checkQcow2(readQcow2Metadata(broken(offset)), OPTIONS);
    expect(report).toMatchObject({ exitCode: 1, failure: 'Input/output error', counts: { checkErrors: 1, corruptions: 0 } });
    expect(report.findings[0]).toMatchObject({
      kind: 'unreadable',
      category: 'checkError',
      message: expect.stringContaining(structure) as string,
    });
  });

  it('a refcount block: its clusters cannot be compared', async () => {
    const report = await checkQcow2(readQcow2Metadata(broken((refcountBlockOffsets[0] ?? 0) + 2)), OPTIONS);
    expect(report).toMatchObject({ exitCode: 1, failure: null });
    expect(report.kinds).toEqual([{ kind: 'unreadable', category: 'checkError', count: image.layout.fileSize / CLUSTER }]);
  });
});
