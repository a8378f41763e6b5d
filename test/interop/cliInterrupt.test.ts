import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { spawnKept } from './processes';
import { CLI, temporaryFolder } from './tools';

/* Ctrl-C in the middle of a conversion, which at its rate would take an hour. */

const SIZE = 4 * 1024 * 1024;
const RATE = '1k';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeEach(async () => {
  folder = await temporaryFolder('interrupt');
  await writeFile(join(folder.path, 'source.raw'), randomBytes(SIZE));
});
afterEach(() => folder.dispose());

async function interrupted(signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string; files: string[] }> {
  const child = spawnKept(process.execPath, [CLI, 'convert', '-p', '-r', RATE, '-f', 'raw', '-O', 'qcow2', 'source.raw', 'target.qcow2'], {
    cwd: folder.path,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => {
    stderr += text.toString();
  });
  const ended = once(child, 'close');
  await once(child.stdout, 'data');
  child.stdout.resume();
  child.kill(signal);
  const [code] = (await ended) as [number | null];
  return { code, stderr, files: await readdir(folder.path) };
}

test('the new image is removed', async () => {
  expect(await interrupted('SIGINT')).toEqual({
    code: 130,
    stderr: 'chainscope: Interrupted: the new image is removed.\n',
    files: ['source.raw'],
  });
});

test('a file that was there before stays, incomplete', async () => {
  await writeFile(join(folder.path, 'target.qcow2'), '');
  expect(await interrupted('SIGTERM')).toEqual({
    code: 143,
    stderr: "chainscope: Interrupted: 'target.qcow2' is incomplete.\n",
    files: ['source.raw', 'target.qcow2'],
  });
});
