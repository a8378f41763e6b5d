import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nbdkit, type RunningServer } from './nbdServers';
import { spawnKept } from './processes';
import { CLI, temporaryFolder } from './tools';

/* Ctrl-C in the middle of a conversion, which takes more than a minute: its source comes slowly. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let source: RunningServer;
let cwd: string;
beforeEach(async () => {
  folder = await temporaryFolder('interrupt');
  source = await nbdkit(folder.path, ['-r', '--filter=rate', 'pattern', 'size=96M', 'rate=8M']);
  cwd = join(folder.path, 'made');
  await mkdir(cwd);
});
afterEach(async () => {
  await source.stop();
  await folder.dispose();
});

async function interrupted(signal: NodeJS.Signals): Promise<{ code: number | null; stderr: string; files: string[] }> {
  const child = spawnKept(process.execPath, [CLI, 'convert', '-p', '-c', '-f', 'raw', '-O', 'qcow2', source.uri, 'target.qcow2'], {
    cwd,
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
  return { code, stderr, files: await readdir(cwd) };
}

test('the new image is removed', async () => {
  expect(await interrupted('SIGINT')).toEqual({
    code: 130,
    stderr: 'chainscope: Interrupted: the new image is removed.\n',
    files: [],
  });
});

test('a file that was there before stays, incomplete', async () => {
  await writeFile(join(cwd, 'target.qcow2'), '');
  expect(await interrupted('SIGTERM')).toEqual({
    code: 143,
    stderr: "chainscope: Interrupted: 'target.qcow2' is incomplete.\n",
    files: ['target.qcow2'],
  });
});
