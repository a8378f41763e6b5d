import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { checkImage } from '../../../src/engine/check/check';
import { Qcow2Node } from '../../../src/engine/formats/qcow2/write/qcow2Node';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { crashed, RecordingStorage } from '../../harness/storage/recordingStorage';
import { Random, testSeed } from '../../interop/random';

const SIZE = 8 * 1024 * 1024;
const seed = testSeed();

function madeImage(options: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'empty-'));
  try {
    const path = join(folder, 'a.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', options, path, `${SIZE}`]);
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 1 0 256k', '-c', 'write -P 1 5M 128k', path], { stdio: 'ignore' });
    return new Uint8Array(readFileSync(path));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const open = (storage: MemoryStorage | RecordingStorage) => Qcow2Node.open({ storage, backing: null, nodeName: 'a', readOnly: false });

it.each(['cluster_size=64k', 'cluster_size=16k,refcount_bits=1', 'cluster_size=32k,lazy_refcounts=on'])(
  `an image that is emptied at once is sound after a crash at any point (%s, CHAINSCOPE_SEED=${seed})`,
  async (options) => {
    const random = new Random(seed);
    const start = madeImage(options);
    const storage = new RecordingStorage(new MemoryStorage(start));
    const node = await open(storage);
    await node.makeEmpty();
    const cuts = storage.log.filter(({ kind }) => kind === 'truncate');
    expect(cuts).toHaveLength(1);
    await node.write(6 * 1024 * 1024, new Uint8Array(70_000).fill(2));
    await node.close();
    for (let count = 0; count <= storage.log.length; count++) {
      for (const chance of [0, 0.3, 0.7, 1]) {
        const file = new MemoryStorage(crashed(start, storage.log, count, () => random.chance(chance)));
        const what = `after ${count} operations, ${chance} kept`;
        const again = await open(file);
        const bytes = new Uint8Array(256 * 1024);
        await again.read(0, bytes);
        expect(bytes.every((byte) => byte === 1) || bytes.every((byte) => byte === 0), what).toBe(true);
        await again.close();
        const { counts } = await checkImage(file, 'qcow2', { deep: false, maxFindings: 10, dataFile: null, chainLoop: null });
        expect(counts, what).toMatchObject({ corruptions: 0, checkErrors: 0 });
      }
    }
  },
);
