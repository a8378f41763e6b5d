import { expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/errors';
import { RawNode } from '../../../src/engine/formats/raw/rawNode';
import { WriteBehind } from '../../../src/engine/manage/copy/writeBehind';
import { MemoryStorage } from '../../harness/storage/memoryStorage';

const MIB = 1024 * 1024;

/** Counts flushes, which end when they are told to. */
class CountingStorage extends MemoryStorage {
  flushes = 0;
  private readonly ends: ((error?: EngineError) => void)[] = [];

  override flush(): Promise<void> {
    this.flushes++;
    return new Promise((resolve, reject) => {
      this.ends.push((error) => {
        if (error) {
          reject(error);
        } else {
          resolve();
        }
      });
    });
  }

  endFlush(error?: EngineError): void {
    this.ends.shift()!(error);
  }
}

function behindStorage(): { readonly storage: CountingStorage; readonly behind: WriteBehind } {
  const storage = new CountingStorage();
  return { storage, behind: new WriteBehind(new RawNode(storage, { nodeName: 'node', filename: 'raw', readOnly: false })) };
}

test('the disk is set to work every 64 MiB, by one flush at a time', async () => {
  const { storage, behind } = behindStorage();
  behind.wrote(63 * MIB);
  expect(storage.flushes).toBe(0);
  behind.wrote(MIB);
  expect(storage.flushes).toBe(1);
  behind.wrote(64 * MIB);
  expect(storage.flushes).toBe(1);
  storage.endFlush();
  await behind.end();
  behind.wrote(1);
  expect(storage.flushes).toBe(2);
  storage.endFlush();
  await behind.end();
});

test('a write that the disk refused is told at the end, though later flushes go well', async () => {
  const { storage, behind } = behindStorage();
  const failure = new EngineError('file.io', 'the disk refused it');
  behind.wrote(64 * MIB);
  storage.endFlush(failure);
  await expect(behind.end()).rejects.toBe(failure);
  behind.wrote(64 * MIB);
  storage.endFlush();
  await expect(behind.end()).rejects.toBe(failure);
});
