import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ChainLink } from '../../../src/protocol/chain';
import { openChain, type OpenChainOptions } from '../../../src/engine/chain/openChain';
import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import type { GateDecision, NamedFile, OpeningGate } from '../../../src/engine/gate/gate';
import { followGate } from '../../../src/engine/gate/policies';

let folder: string;
const at = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'chainscope-chain-')));
  mkdirSync(at('inside'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Writes a small qcow2 image. */
function image(name: string, backing: string | null = null, format: string | null = 'qcow2', size = 1024 * 1024): string {
  const builder = new Qcow2Builder({ size, clusterBits: 9, ...(backing === null ? {} : { backing: { name: backing, format } }) });
  const { pieces, layout } = builder.build();
  const bytes = Buffer.alloc(layout.fileSize);
  for (const piece of pieces) {
    bytes.set(piece.bytes, piece.hostOffset);
  }
  writeFileSync(at(name), bytes);
  return at(name);
}

async function links(file: string, options: Partial<OpenChainOptions> = {}): Promise<readonly ChainLink[]> {
  const chain = await openChain(file, { gate: followGate(), ...options });
  chain.close();
  return chain.links;
}

/** Each link in a few words. */
async function outline(file: string, options: Partial<OpenChainOptions> = {}): Promise<string[]> {
  return (await links(file, options)).map(({ recordedName, state, image: found, role }) => {
    const what = state.kind === 'open' ? (found?.format ?? '?') : state.kind === 'refused' ? state.reason : state.kind;
    return `${role} ${recordedName.replace(`${folder}/`, '')}: ${what}`;
  });
}

describe('a chain', () => {
  test('goes down to its base, with recorded and with guessed formats', async () => {
    writeFileSync(at('base.raw'), Buffer.alloc(1000));
    image('middle', 'base.raw', 'raw');
    image('overlay', 'middle', null);
    const chain = await openChain(at('overlay'), { gate: followGate() });
    chain.close();
    expect(chain.complete).toBe(true);
    expect(
      chain.layers.map(({ filename, formatRecorded, virtualSize, depth }) => ({ filename, formatRecorded, virtualSize, depth })),
    ).toEqual([
      { filename: at('overlay'), formatRecorded: false, virtualSize: 1024 * 1024, depth: 0 },
      { filename: at('middle'), formatRecorded: false, virtualSize: 1024 * 1024, depth: 1 },
      { filename: at('base.raw'), formatRecorded: true, virtualSize: 1024, depth: 2 },
    ]);
  });

  test('takes the recorded format, whatever the bytes look like', async () => {
    image('trojan');
    expect(await outline(image('honest', 'trojan', 'raw'))).toEqual(['active honest: qcow2', 'backing trojan: raw']);
  });

  test('says of a format that cannot be read that it cannot', async () => {
    image('plain');
    expect(await outline(image('foreign', 'plain', 'vhdx'))).toEqual(['active foreign: qcow2', 'backing plain: unreadable']);
    expect((await links(at('foreign')))[1]?.state).toMatchObject({ message: expect.stringContaining("'vhdx'") as string });
  });

  test('of hundreds of images', async () => {
    image('0');
    for (let index = 1; index < 300; index++) {
      image(`${index}`, `${index - 1}`);
    }
    expect(await links(at('299'))).toHaveLength(300);
  });

  test('is shown as far as it goes', async () => {
    expect(await outline(image('lonely', 'nobody'))).toEqual(['active lonely: qcow2', 'backing nobody: missing']);
    expect(await outline(image('far', 'ssh://localhost/x', 'raw'))).toEqual(['active far: qcow2', 'backing ssh://localhost/x: protocol']);
    expect(await outline(image('empty', '', 'raw'))).toEqual(['active empty: qcow2']);
  });

  test('may be relative to a symbolic link’s folder, as in QEMU', async () => {
    mkdirSync(at('links'));
    image('inside/base');
    image('inside/overlay', 'base');
    symlinkSync(at('inside/overlay'), at('links/overlay'));
    expect(await outline(at('links/overlay'))).toEqual(['active links/overlay: qcow2', 'backing base: missing']);
    expect(await outline(at('inside/overlay'))).toEqual(['active inside/overlay: qcow2', 'backing base: qcow2']);
  });

  test('of VMDK shows parents and extents', async () => {
    writeFileSync(at('disk-flat.vmdk'), Buffer.alloc(1024));
    writeFileSync(at('sparse.vmdk'), 'KDMV');
    const extents = 'RW 2 FLAT "disk-flat.vmdk" 0\nRW 2 SPARSE "sparse.vmdk"\nRW 2 SPARSE "gone.vmdk"\nRW 2 ZERO\n';
    writeFileSync(at('disk.vmdk'), `# Disk DescriptorFile\nversion=1\nparentFileNameHint="parent.vmdk"\n${extents}`);
    writeFileSync(at('parent.vmdk'), '# Disk DescriptorFile\nversion=1\n');
    expect(await outline(at('disk.vmdk'))).toEqual([
      'active disk.vmdk: vmdk',
      'extent disk-flat.vmdk: raw',
      'extent sparse.vmdk: vmdk',
      'extent gone.vmdk: missing',
      'backing parent.vmdk: vmdk',
    ]);
  });
});

describe('a loop', () => {
  test.each([
    ['of one', ['loop-a'], { 'loop-a': 'loop-a' }],
    ['of two', ['loop-b', 'loop-c'], { 'loop-b': 'loop-c', 'loop-c': 'loop-b' }],
    ['that the active layer is no part of', ['loop-d', 'loop-e'], { 'loop-d': 'loop-e', 'loop-e': 'loop-e' }],
  ])('%s is shown once', async (_name, [first = ''], names) => {
    for (const [name, backing] of Object.entries(names)) {
      image(name, backing);
    }
    const chain = await links(at(first));
    expect(chain.map(({ state }) => state.kind)).toEqual([...Object.keys(names).map(() => 'open'), 'loop']);
  });

  test('is seen through other names of the same file', async () => {
    image('named', 'hard');
    linkSync(at('named'), at('hard'));
    expect((await links(at('named'))).map(({ state }) => state.kind)).toEqual(['open', 'loop']);
    image('pointed', 'soft');
    symlinkSync('pointed', at('soft'));
    expect((await links(at('pointed'))).map(({ state }) => state.kind)).toEqual(['open', 'loop']);
  });
});

describe('the gate', () => {
  class Recording implements OpeningGate {
    readonly asked: NamedFile[] = [];
    private readonly answer: (named: NamedFile) => GateDecision | Promise<GateDecision>;

    constructor(answer: (named: NamedFile) => GateDecision | Promise<GateDecision>) {
      this.answer = answer;
    }

    decide(named: NamedFile): GateDecision | Promise<GateDecision> {
      this.asked.push(named);
      return this.answer(named);
    }
  }

  test('judges where a name leads, before anything is opened', async () => {
    writeFileSync(at('secret'), 'secret');
    symlinkSync(at('secret'), at('inside/looks-local'));
    symlinkSync(folder, at('inside/escape'));
    const gate = new Recording(({ path }) =>
      path?.startsWith(at('inside')) ? { allowed: true } : { allowed: false, reason: 'outsideWorkspace' },
    );
    for (const name of ['looks-local', 'escape/secret', '../secret', '/etc/passwd', `json:{"filename":"${at('secret')}"}`]) {
      image('inside/curious', name, 'raw');
      const [, link] = await links(at('inside/curious'), { gate });
      expect(link, name).toMatchObject({ recordedName: name, state: { kind: 'refused', reason: 'outsideWorkspace' }, image: null });
    }
    expect(gate.asked.map(({ path, protocol, role, image: holder }) => ({ path, protocol, role, holder }))).toEqual(
      [at('secret'), at('secret'), at('secret'), '/etc/passwd', at('secret')].map((path, index) => ({
        path,
        protocol: index === 4 ? 'json' : null,
        role: 'backing',
        holder: at('inside/curious'),
      })),
    );
  });

  test('is not asked about what nothing names', async () => {
    const gate = new Recording(() => ({ allowed: true }));
    await links(image('alone'), { gate });
    expect(gate.asked).toEqual([]);
  });

  test('may take its time, and fail', async () => {
    const slow = new Recording(() => Promise.resolve({ allowed: true }));
    image('slow-base');
    expect(await links(image('slow', 'slow-base'), { gate: slow })).toHaveLength(2);
    const broken = new Recording(() => Promise.reject(new Error('the shell is gone')));
    await expect(links(at('slow'), { gate: broken })).rejects.toThrow('the shell is gone');
  });

  test('may put another file in the place of a missing one', async () => {
    image('moved-base');
    image('moved', 'old-place');
    const gate = new Recording(() => ({ allowed: true, replacement: at('moved-base') }));
    expect((await links(at('moved'), { gate }))[1]).toMatchObject({
      recordedName: 'old-place',
      path: at('moved-base'),
      state: { kind: 'open' },
    });
  });
});

describe('what is no image file', () => {
  test('an active layer says so', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    mkdirSync(at('folder'));
    const code = async (file: string) => links(file).catch((error: unknown) => (error as { code?: string }).code);
    expect(await code(at('pipe'))).toBe('file.notRegular');
    expect(await code(at('folder'))).toBe('file.notRegular');
    expect(await code('/dev/null')).toBe('file.notRegular');
    expect(await code(at('absent'))).toBe('file.notFound');
    expect(await code(at('base.raw/below'))).toBe('file.notFound');
    writeFileSync(at('old.qcow'), Buffer.from('514649fb00000001', 'hex'));
    expect(await code(at('old.qcow'))).toBe('format.unsupported');
  });

  test('a link says so and the chain ends', async () => {
    for (const [name, state] of [
      ['pipe', 'unreadable'],
      ['folder', 'unreadable'],
      ['/dev/zero', 'unreadable'],
      ['x'.repeat(300), 'unreadable'],
      ['absent', 'missing'],
      ['base.raw/below', 'missing'],
      ['old.qcow', 'unreadable'],
    ] as const) {
      expect(
        (await links(image('strange', name, null))).map((link) => link.state.kind),
        name,
      ).toEqual(['open', state]);
    }
  });

  test('names are data, whatever characters they have', async () => {
    const name = 'a\u001b[31m\u0007\n<img src=x>\u202e"\'`$(reboot)';
    image(name);
    const [, link] = await links(image('odd', name));
    expect(link).toMatchObject({ recordedName: name, path: at(name), state: { kind: 'open' } });
  });
});

test('opening can be cancelled', async () => {
  const stop = new AbortController();
  stop.abort();
  await expect(links(image('stopped'), { signal: stop.signal })).rejects.toMatchObject({ code: 'cancelled' });
});

test('no file stays open behind a chain that is closed, or that failed to open', async () => {
  const open = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
      } catch {
        // Closed since the folder was read.
        return false;
      }
    }).length;
  image('closed-base');
  image('closed', 'closed-base');
  const chain = await openChain(at('closed'), { gate: followGate() });
  expect(open()).toBe(2);
  chain.close();
  chain.close();
  await links(at('closed'), { gate: { decide: () => Promise.reject(new Error('no')) } }).catch(() => undefined);
  await links(at('loop-b'));
  await links(at('disk.vmdk'));
  await links(at('old.qcow')).catch(() => undefined);
  expect(open()).toBe(0);
});
