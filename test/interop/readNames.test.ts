import { mkdir, rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openChain } from '../../src/engine/chain/openChain';
import { followGate } from '../../src/engine/gate/policies';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* Which file a recorded name leads to, asked of qemu-img and of us, from the same folder. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let base: string;
beforeAll(async () => {
  folder = await temporaryFolder('names');
  base = folder.path;
  await mkdir(join(base, 'sub/deep'), { recursive: true });
  await mkdir(join(base, 'other'));
  // The size tells which file was found.
  const sizes = { base: 1, 'sub/base': 2, 'sub/deep/base': 3, 'other/base': 4, 'sub/a:b': 5 };
  for (const [name, size] of Object.entries(sizes)) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', join(base, name), `${size}M`]);
  }
  await symlink('../other', join(base, 'sub/link'));
  await symlink('sub/deep', join(base, 'shortcut'));
});
afterAll(() => folder.dispose());

interface InfoLink {
  readonly 'virtual-size': number;
  readonly 'full-backing-filename'?: string;
}

const names = (): readonly string[] => [
  'base',
  './base',
  '../base',
  'deep/base',
  'link/base',
  'link/../base',
  'a:b',
  './a:b',
  `${base}/sub/base`,
  `${base}/sub/link/../base`,
  'file:base',
  'file:sub/base',
  `file:${base}/base`,
  'file:./base',
  'json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}',
  'json:{"file.filename":"sub/base"}',
  `json:{"driver":"qcow2","file.driver":"file","file.filename":"sub/base"}`,
  'json:{"driver":"qcow2","file.filename":"file:base"}',
  'nowhere',
  'weird:thing',
];

describe.each(['sub/overlay', './sub/overlay', 'shortcut/overlay', 'ABSOLUTE', 'overlay'])('names in the overlay %s', (overlay) => {
  test('lead where qemu-img goes', async () => {
    const file = overlay === 'ABSOLUTE' ? join(base, 'sub/overlay') : overlay;
    for (const name of names()) {
      await makeWithQemuImg(['create', '-q', '-u', '-f', 'qcow2', '-b', name, '-F', 'qcow2', file, '8M'], { cwd: base });
      const alone = await qemuImg(['info', '--output=json', file], { cwd: base });
      const chain = await qemuImg(['info', '--output=json', '--backing-chain', file], { cwd: base });
      const theirs = {
        fullName: (JSON.parse(alone.stdout) as InfoLink)['full-backing-filename'] ?? name,
        size: chain.code === 0 ? (JSON.parse(chain.stdout) as InfoLink[])[1]?.['virtual-size'] : null,
      };
      const ours = await inFolder(base, async () => {
        const opened = await openChain(file, { gate: followGate(), currentFolder: base });
        opened.close();
        return { fullName: opened.layers[1]?.filename ?? theirs.fullName, size: opened.layers[1]?.virtualSize ?? null };
      });
      expect(ours, `${name} in ${file}\n${chain.stderr}`).toEqual(theirs);
    }
  });
});

/** The active layer's own name is relative to where the process runs. */
async function inFolder<T>(path: string, action: () => Promise<T>): Promise<T> {
  const before = process.cwd();
  process.chdir(path);
  try {
    return await action();
  } finally {
    process.chdir(before);
  }
}

test('a relative data file lies in the current folder, as for qemu-io', async () => {
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', 'data_file=external.data', 'external.qcow2', '1M'], { cwd: base });
  const image = join(base, 'external.qcow2');
  for (const [home, found] of [
    [base, true],
    [join(base, 'other'), false],
  ] as const) {
    const theirs = await runTool('qemu-io', ['-r', '-c', 'read 0 512', image], { cwd: home });
    const chain = await openChain(image, { gate: followGate(), currentFolder: home });
    chain.close();
    expect({ theirs: theirs.code === 0, ours: chain.links[1]?.state.kind }).toEqual({ theirs: found, ours: found ? 'open' : 'missing' });
  }
  // In a window there is no current folder: the image's own is the best guess.
  const chain = await openChain(image, { gate: followGate() });
  chain.close();
  expect(chain.links.map(({ role, state }) => `${role} ${state.kind}`)).toEqual(['active open', 'data-file open']);
  const refused = await openChain(image, { gate: followGate('none') });
  refused.close();
  expect(refused.layers[0]?.detail).toMatchObject({ dataFile: null });
  await rename(join(base, 'external.data'), join(base, 'moved.data'));
});
