import * as fs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FileStorage } from '../../../src/engine/io/fileStorage';

vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>();
  return { ...real, fdatasync: vi.fn(real.fdatasync) };
});

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lost-writes-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

test('a flush that failed makes those that follow fail too: the system tells of lost writes once only', async () => {
  const storage = FileStorage.openFile(join(folder, 'file'), { writable: true, create: 'new' });
  storage.write(new Uint8Array(512).fill(1), 0);
  await storage.flush();
  const failing = (_: number, done: (error: NodeJS.ErrnoException | null) => void) =>
    done(Object.assign(new Error('EIO'), { code: 'EIO' }));
  vi.mocked(fs.fdatasync).mockImplementationOnce(failing);
  await expect(storage.flush()).rejects.toMatchObject({ code: 'file.io' });
  await expect(storage.flush()).rejects.toMatchObject({ code: 'file.io' });
  storage.close();
});
