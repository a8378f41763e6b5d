import { expect, it } from 'vitest';

import { SliceCache } from '../../../src/engine/formats/qcow2/write/slices';
import { NotLoaded } from '../../../src/engine/io/loading';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { Random, testSeed } from '../../interop/random';

/* Slices make room for each other in the same memory: what is read is always what the file has, or what was changed and is not written yet. */

const SLICE = 512;
const SLICES = 100;

/** A file that has to be fetched first, now and then. */
class Hesitant extends MemoryStorage {
  hesitates = false;

  override read(target: Uint8Array, hostOffset: number): number {
    if (this.hesitates) {
      target.fill(0xff);
      throw new NotLoaded(() => Promise.resolve());
    }
    return super.read(target, hostOffset);
  }
}

const seed = testSeed();

it(`has the file's bytes and the changed ones, whatever made room for what (CHAINSCOPE_SEED=${seed})`, async () => {
  const random = new Random(seed);
  // The last one lies past the end of the file by a half.
  const content = new Uint8Array((SLICES - 0.5) * SLICE).map((_, index) => (index * 7 + Math.floor(index / SLICE) * 31) & 0xff);
  const file = new Hesitant(content);
  const cache = new SliceCache(file, SLICE, 0);
  const model = new Uint8Array(SLICES * SLICE);
  model.set(content);
  for (let step = 0; step < 20_000; step++) {
    const offset = random.below(SLICES) * SLICE;
    file.hesitates = random.below(10) === 0;
    const read = () => cache.slice(offset);
    if (file.hesitates && cache.cached(offset) === undefined) {
      expect(read).toThrow(NotLoaded);
      continue;
    }
    const slice = read();
    expect(slice.hostOffset).toBe(offset);
    expect(Buffer.compare(slice.bytes, model.subarray(offset, offset + SLICE))).toBe(0);
    switch (random.below(12)) {
      case 0: {
        const at = random.below(SLICE);
        slice.bytes[at] = step & 0xff;
        cache.touch(slice, at, at + 1);
        model[offset + at] = step & 0xff;
        break;
      }
      case 1: {
        const writes = cache.take();
        if (random.below(3) === 0) {
          cache.putBack(writes);
          break;
        }
        for (const { slice: changed, from, bytes } of writes) {
          await file.write(bytes, changed.hostOffset + from);
        }
        cache.release(writes);
        break;
      }
      case 2: {
        // Its clusters have new contents.
        const bytes = new Uint8Array(SLICE).fill(step & 0xff);
        await file.write(bytes, offset);
        cache.forget(offset, SLICE);
        model.set(bytes, offset);
        break;
      }
    }
  }
});
