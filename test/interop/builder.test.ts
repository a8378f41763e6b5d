import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../src/engine/formats/qcow2/builder';
import { writeBuiltImage, writeSampleImages } from '../../src/engine/sample/write';

/* The oracle for images that we build is qemu-img. */

let folder: string;
beforeAll(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chainscope-builder-'));
});
afterAll(() => {
  fs.rmSync(folder, { recursive: true });
});

function qemuCheck(file: string): { exitCode: number; leaks: number; corruptions: number } {
  try {
    const out = execFileSync('qemu-img', ['check', '--output=json', file], { stdio: ['ignore', 'pipe', 'pipe'] });
    return { exitCode: 0, ...counts(out) };
  } catch (error) {
    const failed = error as { status: number; stdout: Buffer };
    return { exitCode: failed.status, ...counts(failed.stdout) };
  }
}

function counts(json: Buffer): { leaks: number; corruptions: number } {
  const { leaks = 0, corruptions = 0 } = JSON.parse(json.toString()) as { leaks?: number; corruptions?: number };
  return { leaks, corruptions };
}

describe('the sample images, as qemu-img sees them', () => {
  let samples: string;
  beforeAll(() => {
    samples = path.join(folder, 'samples');
    writeSampleImages(samples);
  });

  it.each(['debian-12-base.qcow2', 'web-server.qcow2', 'web-server-staging.qcow2', 'database-extended-l2.qcow2'])(
    '%s is consistent',
    (name) => {
      expect(qemuCheck(path.join(samples, name))).toEqual({ exitCode: 0, leaks: 0, corruptions: 0 });
    },
  );

  it('leaked-clusters.qcow2 has leaks and nothing else', () => {
    expect(qemuCheck(path.join(samples, 'leaked-clusters.qcow2'))).toEqual({ exitCode: 3, leaks: 5, corruptions: 0 });
  });

  it('corrupted.qcow2 has corruptions', () => {
    expect(qemuCheck(path.join(samples, 'corrupted.qcow2'))).toMatchObject({ exitCode: 2, corruptions: 4 });
  });

  it('refuses a folder that is not empty', () => {
    expect(() => {
      writeSampleImages(samples);
    }).toThrow(/is not empty/);
  });
});

describe.each([
  { refcountOrder: 0, clusterBits: 9 },
  { refcountOrder: 1, clusterBits: 12 },
  { refcountOrder: 2, clusterBits: 16 },
  { refcountOrder: 3, clusterBits: 16, compression: 'zstd' as const },
  { refcountOrder: 4, clusterBits: 21 },
  { refcountOrder: 5, clusterBits: 16, extendedL2: true },
  { refcountOrder: 6, clusterBits: 16 },
])('a built image with $clusterBits cluster bits and refcount order $refcountOrder', (options) => {
  it('is consistent, and reads as what was written', () => {
    const file = path.join(folder, `built-${options.clusterBits}-${options.refcountOrder}.qcow2`);
    const builder = new Qcow2Builder({ size: 64 * 2 ** options.clusterBits, ...options });
    const text = new TextEncoder().encode('chainscope '.repeat(30));
    builder.write(3, text).zero(4).zero(5, true).write(9, text).discard(9);
    if (!options.extendedL2) {
      builder.writeCompressed(6, text).writeCompressed(7, text);
    }
    writeBuiltImage(file, builder.build());
    expect(qemuCheck(file)).toEqual({ exitCode: 0, leaks: 0, corruptions: 0 });

    const raw = `${file}.raw`;
    execFileSync('qemu-img', ['convert', '-O', 'raw', file, raw]);
    const bytes = fs.readFileSync(raw);
    const written = options.extendedL2 ? [3] : [3, 6, 7];
    for (let cluster = 0; cluster < 64; cluster++) {
      const found = bytes.subarray(cluster * builder.clusterSize, cluster * builder.clusterSize + text.length);
      expect(found.equals(written.includes(cluster) ? text : Buffer.alloc(text.length)), `guest cluster ${cluster}`).toBe(true);
    }
  });
});
