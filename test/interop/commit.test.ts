import { execFileSync } from 'node:child_process';
import { mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OpeningGate } from '../../src/engine/gate/gate';
import { commitImage } from '../../src/engine/manage/commit';
import { fillUp, mountSmallDisk } from './smallMount';
import { makeWithQemuImg, qemuImg, runTool, writeWithQemuIo } from './tools';
import { ending, twinFolders, type Twins } from './twins';

/* commit: which image of the chain a name means, and images that somebody changes just before they are locked. */

let twins: Twins;
beforeAll(async () => {
  twins = await twinFolders('commit');
});
afterAll(async () => {
  await twins.dispose();
});

/** top on middle on base, of 4 MiB; the base without an L2 table, and so without an entry of its L1 table that could be read early. */
async function chain(cwd: string, folder: string): Promise<void> {
  const home = join(cwd, folder);
  await mkdir(home);
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', 'base', '4M'], { cwd: home });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'middle'], { cwd: home });
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', 'middle', '-F', 'qcow2', 'top'], { cwd: home });
  await symlink('middle', join(home, 'link'));
}

test('the base is found by its name as the images have it, and no other way', async () => {
  await twins.both((cwd) => chain(cwd, 'names'));
  for (const name of ['middle', './middle', 'link', 'base', 'names/middle', 'names/../middle', 'top', 'nope', 'file:middle', '']) {
    const { theirs, ours } = await twins.run(['commit', '-b', name, 'names/top']);
    expect({ name, ...ending(ours) }).toEqual({ name, ...ending(theirs) });
  }
  const absolute = async (cwd: string, program: 'theirs' | 'ours') => {
    const { ours, theirs } = await twins.run(['commit', '-b', join(cwd, 'names', 'middle'), 'names/top']);
    return ending(program === 'ours' ? ours : theirs);
  };
  expect(await absolute(twins.ours, 'ours')).toEqual(await absolute(twins.theirs, 'theirs'));
});

/** Does something when the chain is opened for the first time, between the image and what it is built on: before anything is locked. */
function onceOpened(work: () => void): OpeningGate {
  let done = false;
  return {
    decide: () => {
      if (!done) {
        done = true;
        work();
      }
      return { allowed: true };
    },
  };
}

test('what another program wrote before the image was locked is committed', async () => {
  await chain(twins.ours, 'written');
  const home = join(twins.ours, 'written');
  const top = join(home, 'top');
  const gate = onceOpened(() => {
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 64k', top]);
  });
  await commitImage({ image: { filename: top, format: 'qcow2' }, base: 'base', keep: false, durable: false, speed: 0 }, { gate });
  const { code, stdout } = await runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 7 1M 64k', join(home, 'base')]);
  expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.not.stringContaining('verification failed') as unknown });
  expect((await qemuImg(['check', '-f', 'qcow2', join(home, 'base')])).code).toBe(0);
});

test('no more is copied than the rate allows', async () => {
  await chain(twins.ours, 'slow');
  const [top, middle] = ['top', 'middle'].map((name) => join(twins.ours, 'slow', name));
  await writeWithQemuIo(['-f', 'qcow2', top!], ['write -P 7 0 4M']);
  const ending = new AbortController();
  const commit = commitImage(
    { image: { filename: top!, format: 'qcow2' }, base: null, keep: false, durable: false, speed: 1 },
    // It first has something to tell when it waits.
    { gate: onceOpened(() => undefined), signal: ending.signal, onProgress: (done) => done > 0 && ending.abort() },
  );
  await expect(commit).rejects.toMatchObject({ code: 'cancelled' });
  await writeWithQemuIo(['-r', '-f', 'qcow2', middle!], ['read -P 7 0 512k', 'read -P 0 512k 3584k']);
});

test('an image that another program built on something else meanwhile is not committed', async () => {
  await chain(twins.ours, 'rebased');
  const home = join(twins.ours, 'rebased');
  const top = join(home, 'top');
  await writeWithQemuIo(['-f', 'qcow2', top], ['write -P 7 1M 64k']);
  const gate = onceOpened(() => {
    execFileSync('qemu-img', ['rebase', '-u', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', top]);
  });
  const commit = commitImage({ image: { filename: top, format: 'qcow2' }, base: null, keep: false, durable: false, speed: 0 }, { gate });
  await expect(commit).rejects.toMatchObject({ code: 'format.invalid' });
  const { stdout } = await runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 7 1M 64k', top]);
  expect(stdout).not.toContain('verification failed');
});

test('a commit for which there is no room says so and leaves a sound base, and another one ends when there is', async () => {
  const mount = await mountSmallDisk(48 * 1024 * 1024);
  try {
    const base = join(mount.path, 'base');
    const top = join(mount.path, 'top');
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, '64M']);
    await writeWithQemuIo(['-f', 'qcow2', base], ['write -P 3 0 4M']);
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
    await writeWithQemuIo(['-f', 'qcow2', top], ['write -P 7 2M 12M']);
    await fillUp(mount);
    const commit = () =>
      commitImage(
        { image: { filename: top, format: 'qcow2' }, base: null, keep: false, durable: true, speed: 0 },
        { gate: onceOpened(() => undefined) },
      );
    await expect(commit()).rejects.toMatchObject({ code: 'file.full', message: expect.stringContaining('Block job failed') as unknown });
    for (const image of [base, top]) {
      expect((await qemuImg(['check', '-q', '-f', 'qcow2', image])).code).toBe(0);
    }
    const verify = async (image: string) => {
      const { code, stdout } = await runTool('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read -P 3 0 2M', '-c', 'read -P 7 2M 12M', image]);
      expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.not.stringContaining('verification failed') as unknown });
    };
    await verify(top);
    await Promise.all([0, 1, 2, 3].map((index) => rm(join(mount.path, `filler${index}`), { force: true })));
    await commit();
    await verify(base);
    expect((await qemuImg(['check', '-q', '-f', 'qcow2', base])).code).toBe(0);
  } finally {
    await mount.dispose();
  }
});
