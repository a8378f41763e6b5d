import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { FileStorage } from '../../../src/engine/io/fileStorage';

it('refuses to write where no file reaches, and writes nowhere else', () => {
  const folder = mkdtempSync(join(tmpdir(), 'file-storage-'));
  try {
    const path = join(folder, 'file');
    const storage = FileStorage.openFile(path, { writable: true, create: 'new' });
    storage.write(new Uint8Array(16).fill(1), 0);
    for (const hostOffset of [2 ** 53 - 1, 2 ** 53, 2 ** 55, 2 ** 63]) {
      expect(() => storage.write(new Uint8Array(4).fill(2), hostOffset)).toThrow(expect.objectContaining({ code: 'file.io' }));
    }
    storage.close();
    expect([...readFileSync(path)]).toEqual(new Array(16).fill(1));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
