import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { DirectStorage } from '../../../src/engine/io/directStorage';
import { FileStorage } from '../../../src/engine/io/fileStorage';
import { loading } from '../../../src/engine/io/loading';
import { PAGE, pageMemory } from '../../../src/engine/io/pageMemory';

const MOST = 512 * 1024;
const OPERATIONS = 40;
const SIZE = 2 * 1024 * 1024;

let folder = '';
let memory: Buffer[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'direct-storage-'));
  memory = Array.from({ length: OPERATIONS }, () => pageMemory(MOST));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

function openDirect(name: string): { readonly path: string; readonly storage: DirectStorage } {
  const path = join(folder, name);
  const storage = DirectStorage.over(FileStorage.openFile(path, { writable: true, create: 'truncate' }));
  if (!(storage instanceof DirectStorage)) {
    throw new Error(`the file system of ${folder} has no direct writes; set TMPDIR to one that has`);
  }
  return { path, storage };
}

const pages = (most: number, least = 0) => fc.integer({ min: least, max: most / PAGE }).map((count) => count * PAGE);
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), at: pages(SIZE - MOST), length: pages(MOST, 1) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('short' as const), at: fc.nat(SIZE - MOST), length: fc.integer({ min: 1, max: 9000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('zero' as const), at: pages(SIZE - MOST), length: pages(MOST, 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), at: fc.nat(SIZE), length: fc.constant(0) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('read' as const), at: fc.nat(SIZE), length: fc.integer({ min: 1, max: MOST }) }) },
);

it('reads and writes as if each change ended before the next begins, however many are on their way', async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 10, maxLength: OPERATIONS }), async (operations) => {
      const { path, storage } = openDirect(`model-${runs++}`);
      let model = Buffer.alloc(0);
      const grow = (size: number) => {
        model = Buffer.concat([model, Buffer.alloc(Math.max(0, size - model.length))]);
      };
      const running: Promise<unknown>[] = [];
      const checks: (() => void)[] = [];
      for (const [index, { kind, at, length }] of operations.entries()) {
        const end = at + length;
        if (kind === 'read') {
          const expected = Buffer.from(model.subarray(at, end));
          const target = Buffer.alloc(length);
          const count = await loading(() => storage.read(target, at));
          checks.push(() => expect(target.subarray(0, count).equals(expected)).toBe(true));
        } else if (kind === 'zero') {
          grow(end);
          model.fill(0, at, end);
          running.push(Promise.resolve(storage.writeZeroes(at, length, { unmap: index % 2 === 0 })));
        } else if (kind === 'truncate') {
          grow(at);
          model = Buffer.from(model.subarray(0, at));
          running.push(Promise.resolve(storage.truncate(at)));
        } else {
          // A buffer belongs to the storage until the write has ended.
          const bytes = kind === 'write' ? memory[index]!.subarray(0, length) : Buffer.alloc(length);
          bytes.fill(index + 1);
          grow(end);
          model.set(bytes, at);
          running.push(Promise.resolve(storage.write(bytes, at)));
        }
      }
      await Promise.all(running);
      await storage.flush();
      expect(storage.size).toBe(model.length);
      storage.close();
      checks.forEach((check) => {
        check();
      });
      expect(readFileSync(path).equals(model)).toBe(true);
    }),
    { numRuns: 15 },
  );
});

it('writes several at the same time, and a flush ends after all that were asked for before it', async () => {
  const { path, storage } = openDirect('several');
  const ended: number[] = [];
  const buffers = memory.slice(0, 4);
  buffers.forEach((bytes, index) => {
    bytes.fill(index + 1);
    void Promise.resolve(storage.write(bytes, index * MOST)).then(() => ended.push(index));
  });
  expect(ended).toEqual([]);
  await storage.flush();
  expect([...ended].sort()).toEqual([0, 1, 2, 3]);
  storage.close();
  expect(readFileSync(path).equals(Buffer.concat(buffers))).toBe(true);
});

it('goes on with the same file when another one has its name', () => {
  const path = join(folder, 'moved');
  const file = FileStorage.openFile(path, { writable: true, create: 'new' });
  rmSync(path);
  const storage = DirectStorage.over(file);
  expect(storage).toBeInstanceOf(DirectStorage);
  storage.close();
});
