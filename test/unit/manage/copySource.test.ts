import { expect, test } from 'vitest';
import { openReader } from '../../../src/engine/block/node';
import { EngineError } from '../../../src/engine/errors';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { CopySource } from '../../../src/engine/manage/copy/copySource';
import { memoryChain, memoryImage } from '../block/memoryChain';
import type { MemorySource } from '../io/memorySource';

const CLUSTER_BITS = 18;
const CLUSTER = 2 ** CLUSTER_BITS;
const CLUSTERS = 6;

/** Words that compress, other ones in each cluster. */
function contents(cluster: number): Buffer {
  return Buffer.alloc(CLUSTER, `what cluster ${cluster} holds; `);
}

function compressedImage(): { readonly image: MemorySource; readonly source: CopySource; readonly placeOf: (cluster: number) => number } {
  const builder = new Qcow2Builder({ size: CLUSTERS * CLUSTER, clusterBits: CLUSTER_BITS });
  for (let cluster = 0; cluster < CLUSTERS; cluster++) {
    builder.writeCompressed(cluster, contents(cluster));
  }
  const image = memoryImage(builder.build());
  const chain = memoryChain([image]);
  const reader = openReader(chain);
  return {
    image,
    source: new CopySource([{ chain, ciphers: new Map(), view: undefined }], false),
    placeOf: (cluster) => reader.blockStatus(cluster * CLUSTER, CLUSTER).compressed!.hostOffset,
  };
}

/** Ends when the read has, with its error; tells what was in the buffer at that moment. */
async function readAll(source: CopySource): Promise<{ readonly error: unknown; readonly bytes: Buffer }> {
  const bytes = Buffer.alloc(CLUSTERS * CLUSTER, 0xee);
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

test('compressed clusters are read', async () => {
  const { source } = compressedImage();
  const { error, bytes } = await readAll(source);
  expect(error).toBeNull();
  expectDecoded(bytes, [0, 1, 2, 3, 4, 5]);
});

test('a cluster that does not decompress is told when nothing writes into the buffer any more', async () => {
  const { image, source, placeOf } = compressedImage();
  // A block type that there is none of: the decoder gives up at once, while it is busy with the others.
  image.bytes[placeOf(0)] = 0x07;
  const { error, bytes } = await readAll(source);
  expect(error).toMatchObject({ code: 'data.undecodable' });
  expectDecoded(bytes, [1, 2, 3, 4, 5]);
});

test('a file that cannot be read is told when nothing writes into the buffer any more', async () => {
  const { image, source, placeOf } = compressedImage();
  const unreadable = placeOf(3);
  const failure = new EngineError('file.io', 'the disk has a bad sector');
  image.onRead = (hostOffset) => {
    if (hostOffset === unreadable) {
      throw failure;
    }
  };
  const { error, bytes } = await readAll(source);
  expect(error).toBe(failure);
  expectDecoded(bytes, [0, 1, 2]);
});
