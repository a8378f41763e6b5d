import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import * as nodeModule from 'node:module';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { keepCompiledCode } from '../../../src/cli/compiledCode';

vi.mock('node:module', () => ({ enableCompileCache: vi.fn() }));

const enabled = vi.mocked(nodeModule.enableCompileCache);
let cache = '';

beforeEach(() => {
  cache = fs.mkdtempSync(path.join(os.tmpdir(), 'chainscope-compiled-'));
  vi.stubEnv('XDG_CACHE_HOME', cache);
  enabled.mockClear();
});

afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(cache, { recursive: true, force: true });
});

function builds(): string[] {
  return fs.readdirSync(path.join(cache, 'chainscope', 'compiled'));
}

test('a folder of the person alone is made', () => {
  keepCompiledCode();
  const [build = ''] = builds();
  const folder = path.join(cache, 'chainscope', 'compiled', build);
  expect(enabled.mock.calls).toEqual([[folder]]);
  expect(fs.statSync(folder).mode & 0o777).toBe(0o700);
});

test('a folder that others can write is not used', () => {
  keepCompiledCode();
  fs.chmodSync(path.join(cache, 'chainscope', 'compiled', builds()[0]!), 0o770);
  enabled.mockClear();
  keepCompiledCode();
  expect(enabled).not.toHaveBeenCalled();
});

test('the latest builds are kept', () => {
  const all = path.join(cache, 'chainscope', 'compiled');
  for (let day = 1; day <= 6; day++) {
    fs.mkdirSync(path.join(all, `build-${day}`), { recursive: true });
    fs.utimesSync(path.join(all, `build-${day}`), day * 86400, day * 86400);
  }
  keepCompiledCode();
  expect(builds().filter((name) => name.startsWith('build-'))).toEqual(['build-4', 'build-5', 'build-6']);
});

test.each(['/dev/null', '/proc', 'relative'])('nothing is kept in %s', (home) => {
  vi.stubEnv('XDG_CACHE_HOME', home);
  vi.stubEnv('HOME', '/dev/null');
  keepCompiledCode();
  expect(enabled).not.toHaveBeenCalled();
});
