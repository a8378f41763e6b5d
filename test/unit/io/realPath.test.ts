import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { realPath } from '../../../src/engine/io/realPath';

let folder: string;
beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'chainscope-realpath-')));
  mkdirSync(join(folder, 'inside', 'deep'), { recursive: true });
  mkdirSync(join(folder, 'outside'));
  writeFileSync(join(folder, 'outside', 'file'), '');
  symlinkSync(join(folder, 'outside'), join(folder, 'inside', 'escape'));
  symlinkSync('../outside/file', join(folder, 'inside', 'link'));
  symlinkSync('../outside/missing', join(folder, 'inside', 'dangling'));
  symlinkSync('circle', join(folder, 'inside', 'circle'));
  symlinkSync('deep', join(folder, 'inside', 'folder'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('where a path leads', () => {
  test.each([
    ['inside/link', 'outside/file'],
    ['inside/escape/file', 'outside/file'],
    ['inside/escape/missing', 'outside/missing'],
    ['inside/escape/no/such/folder', 'outside/no/such/folder'],
    ['inside/dangling', 'outside/missing'],
    ['inside/dangling/below', 'outside/missing/below'],
    ['inside/missing', 'inside/missing'],
    ['inside/link/below-a-file', 'outside/file/below-a-file'],
  ])('%s', (path, target) => {
    expect(realPath(join(folder, path))).toBe(join(folder, target));
  });

  test('a `..` behind a link is that of its target', () => {
    expect(realPath(`${folder}/inside/folder/../link`)).toBe(join(folder, 'outside/file'));
    expect(realPath(`${folder}/inside/escape/../inside/missing`)).toBe(join(folder, 'inside/missing'));
  });

  test('a `..` behind something missing leads nowhere', () => {
    expect(realPath(`${folder}/inside/missing/../link`)).toBe(join(folder, 'inside/missing/link'));
    expect(realPath(`${folder}/missing/../../etc/passwd`)).toBe(join(folder, 'missing/etc/passwd'));
  });

  test('a link to itself ends', () => {
    expect(realPath(join(folder, 'inside/circle/x'))).toContain('circle');
  });
});
