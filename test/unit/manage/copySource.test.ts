import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import esbuild from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openReader } from '../../../src/engine/chain/chainReader';
import { EngineError } from '../../../src/engine/errors';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { CopySource } from '../../../src/engine/manage/copy/copySource';
import { DecodeThreads } from '../../../src/engine/manage/copy/decodeThreads';
import { memoryChain, memoryImage } from '../chain/memoryChain';
import type { MemorySource } from '../io/memorySource';

const CLUSTER_BITS = 18;
const CLUSTER = 2 ** CLUSTER_BITS;
const CLUSTERS = 6;
/** What is compressed before and behind it is decoded by one thread each, at the same time. */
const PLAIN = 3;

let folder = '';
let bundle = '';
const sources: CopySource[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'chainscope-decode-'));
  bundle = path.join(folder, 'decodeThread.js');
  await esbuild.build({
    entryPoints: [path.join(import.meta.dirname, '../../../src/engine/manage/copy/decodeThread.ts')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    logLevel: 'error',
  });
});

afterEach(async () => {
  await Promise.all(sources.splice(0).map((source) => source.close()));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** Words that compress, other ones in each cluster. */
function contents(cluster: number): Buffer {
  return Buffer.alloc(CLUSTER, `what cluster ${cluster} holds; `);
}

async function compressedImage(
  thread = bundle,
  compression: 'zlib' | 'zstd' = 'zlib',
): Promise<{ readonly image: MemorySource; readonly source: CopySource; readonly placeOf: (cluster: number) => number }> {
  const builder = new Qcow2Builder({ size: CLUSTERS * CLUSTER, clusterBits: CLUSTER_BITS, compression });
  for (let cluster = 0; cluster < CLUSTERS; cluster++) {
    if (cluster === PLAIN) {
      builder.write(cluster, contents(cluster));
    } else {
      builder.writeCompressed(cluster, contents(cluster));
    }
  }
  const image = memoryImage(builder.build());
  const chain = memoryChain([image]);
  const reader = openReader(chain);
  const threads = new DecodeThreads(thread);
  const source = new CopySource([{ chain, ciphers: new Map(), view: undefined }], null, threads);
  sources.push(source);
  await threads.started(compression);
  return {
    image,
    source,
    placeOf: (cluster) => reader.blockStatus(cluster * CLUSTER, CLUSTER).compressed!.hostOffset,
  };
}

/** Ends when the read has, with its error; tells what was in the buffer at that moment. */
async function readAll(source: CopySource): Promise<{ readonly error: unknown; readonly bytes: Buffer }> {
  const bytes = Buffer.from(new SharedArrayBuffer(CLUSTERS * CLUSTER)).fill(0xee);
  try {
    await source.read(0, bytes, true);
    return { error: null, bytes };
  } catch (error) {
    return { error, bytes: Buffer.from(bytes) };
  }
}

function expectDecoded(bytes: Buffer, clusters: readonly number[]): void {
  const decoded = clusters.filter((cluster) => contents(cluster).equals(bytes.subarray(cluster * CLUSTER, (cluster + 1) * CLUSTER)));
  expect(decoded).toEqual(clusters);
}

test.each(['zlib', 'zstd'] as const)('clusters compressed with %s are read', async (compression) => {
  const { source } = await compressedImage(bundle, compression);
  const { error, bytes } = await readAll(source);
  expect(error).toBeNull();
  expectDecoded(bytes, [0, 1, 2, 3, 4, 5]);
});

test('a part of a cluster is read', async () => {
  const { source } = await compressedImage();
  const bytes = Buffer.from(new SharedArrayBuffer(CLUSTER));
  await source.read(CLUSTER + 1000, bytes, true);
  expect(bytes.equals(Buffer.concat([contents(1).subarray(1000), contents(2).subarray(0, 1000)]))).toBe(true);
});

test('where no thread can be started everything is decoded all the same', async () => {
  const { source } = await compressedImage(path.join(folder, 'missing.js'));
  for (let round = 0; round < 2; round++) {
    const { error, bytes } = await readAll(source);
    expect(error).toBeNull();
    expectDecoded(bytes, [0, 1, 2, 3, 4, 5]);
  }
});

test('a cluster that does not decompress is told when nothing writes into the buffer any more', async () => {
  const { image, source, placeOf } = await compressedImage();
  // A block type that there is none of: the decoder gives up at once, while another one is busy.
  image.bytes[placeOf(0)] = 0x07;
  const { error, bytes } = await readAll(source);
  expect(error).toMatchObject({ code: 'data.undecodable' });
  expectDecoded(bytes, [3, 4, 5]);
});

test('a file that cannot be read is told when nothing writes into the buffer any more', async () => {
  const { image, source, placeOf } = await compressedImage();
  const unreadable = placeOf(4);
  const failure = new EngineError('file.io', 'the disk has a bad sector');
  image.onRead = (hostOffset) => {
    if (hostOffset === unreadable) {
      throw failure;
    }
  };
  const { error, bytes } = await readAll(source);
  expect(error).toBe(failure);
  expectDecoded(bytes, [0, 1, 2, 3]);
});
