import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openChain } from '../../src/engine/chain/openChain';
import { EngineError } from '../../src/engine/errors';
import { followGate } from '../../src/engine/gate/policies';
import { FileSource } from '../../src/engine/io/file';
import { LockTable, usageOf } from '../../src/engine/io/locks';
import { nativeCalls } from '../../src/engine/io/native';
import { acquireLocks, type LockRole } from '../../src/engine/io/imageLocks';
import { endProcess, spawnKept } from './processes';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder } from './tools';

/* Locks beside those of real QEMU processes: what we see of theirs, and what they see of ours. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const at = (name: string): string => join(folder.path, name);
beforeAll(async () => {
  folder = await temporaryFolder('locks');
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', at('base.qcow2'), '1M']);
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-b', at('base.qcow2'), '-F', 'qcow2', at('overlay.qcow2')]);
  await makeWithQemuImg(['create', '-q', '-f', 'raw', at('disk.raw'), '1M']);
  await makeWithQemuImg(['create', '-q', '-f', 'qcow2', '-o', `data_file=${at('external.data')}`, at('external.qcow2'), '1M']);
});
afterAll(() => folder.dispose());

const holders: ChildProcess[] = [];
const sources: FileSource[] = [];
async function endHolders(): Promise<void> {
  await Promise.all(holders.splice(0).map((child) => endProcess(child, 'SIGKILL')));
}
afterEach(async () => {
  await endHolders();
  for (const source of sources.splice(0)) {
    source.close();
  }
});

function opened(name: string): FileSource {
  const source = FileSource.open(at(name), name);
  sources.push(source);
  return source;
}

/** `first-last` of every lock on a file. */
function bytesLocked(name: string): string[] {
  return (LockTable.read()?.rangesOf(opened(name)) ?? []).map(({ first, last }) => `${first}-${last}`).sort();
}

/** A program that has opened its images once it has answered. */
async function holding(program: string, args: readonly string[], first: string, answer: RegExp): Promise<number> {
  const child = spawnKept(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  holders.push(child);
  child.stdin.write(first);
  let text = '';
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (answer.test(text)) {
      break;
    }
  }
  expect(text).toMatch(answer);
  return child.pid!;
}

function qemuIo(...args: readonly string[]): Promise<number> {
  return holding('qemu-io', args, 'length\n', /1 MiB/);
}

function codeAndMessage(action: () => void): { code: string; message: string; remedy: string | undefined } | null {
  try {
    action();
    return null;
  } catch (error) {
    if (error instanceof EngineError) {
      return { code: error.code, message: error.message, remedy: error.place.remedy };
    }
    throw error;
  }
}

describe('who uses an image', () => {
  test('nobody', () => {
    expect(usageOf(opened('base.qcow2'))).toEqual({ known: true, inUse: false, writing: false, holders: [] });
  });

  test('a writer of the overlay reads the base', async () => {
    const pid = await qemuIo(at('overlay.qcow2'));
    const table = LockTable.read();
    const holders = [{ pid, command: 'qemu-io' }];
    expect(usageOf(opened('overlay.qcow2'), table)).toEqual({ known: true, inUse: true, writing: true, holders });
    expect(usageOf(opened('base.qcow2'), table)).toEqual({ known: true, inUse: true, writing: false, holders });
    expect(usageOf(opened('disk.raw'), table)).toEqual({ known: true, inUse: false, writing: false, holders: [] });
  });

  test('a program whose name the kernel cuts', async () => {
    const command = 'qemu-io-under-a-long-name';
    await symlink((await runTool('which', ['qemu-io'])).stdout.trim(), at(command));
    const pid = await holding(at(command), [at('base.qcow2')], 'length\n', /1 MiB/);
    expect(usageOf(opened('base.qcow2')).holders).toEqual([{ pid, command }]);
  });

  test('two processes', async () => {
    const pids = [await qemuIo('-r', at('base.qcow2')), await qemuIo('-r', at('base.qcow2'))];
    const usage = usageOf(opened('base.qcow2'));
    expect(usage).toMatchObject({ inUse: true, writing: false });
    expect(usage.holders.map(({ pid }) => pid).sort()).toEqual(pids.sort());
  });

  test('our own locks are not a use, also beside those of another', async () => {
    const source = opened('base.qcow2');
    acquireLocks([{ file: source, role: 'metadata' }]);
    expect(usageOf(opened('base.qcow2'))).toMatchObject({ inUse: false });
    const pid = await qemuIo('-r', at('base.qcow2'));
    expect(usageOf(opened('base.qcow2')).holders).toEqual([{ pid, command: 'qemu-io' }]);
  });

  test('the summary of a chain says so for each image', async () => {
    await qemuIo(at('overlay.qcow2'));
    const chain = await openChain(at('overlay.qcow2'), { gate: followGate() });
    chain.close();
    expect(chain.links.map(({ image }) => [image?.usage.inUse, image?.usage.writing])).toEqual([
      [true, true],
      [true, false],
    ]);
  });
});

describe('reading as QEMU reads', () => {
  const roles: readonly (readonly [name: string, role: LockRole])[] = [
    ['base.qcow2', 'metadata'],
    ['disk.raw', 'raw'],
    ['external.data', 'data-file'],
  ];

  test('is refused while another writes, in QEMU’s words and with who it is', async () => {
    const pid = await qemuIo(at('base.qcow2'));
    const theirs = await qemuImg(['info', 'base.qcow2'], { cwd: folder.path });
    const refusal = codeAndMessage(() => acquireLocks([{ file: opened('base.qcow2'), role: 'metadata' }]));
    expect(refusal?.code).toBe('file.locked');
    const [question, who] = refusal?.remedy?.split('\n') ?? [];
    expect(theirs.stderr).toBe(`qemu-img: ${refusal?.message}\n${question}\n`);
    expect(who).toBe(`It is held by qemu-io (process ${pid}).`);
  });

  test('a raw image may be read while another writes, as QEMU has it', async () => {
    await qemuIo('-f', 'raw', at('disk.raw'));
    expect((await qemuImg(['map', '-f', 'raw', at('disk.raw')])).code).toBe(0);
    expect(codeAndMessage(() => acquireLocks([{ file: opened('disk.raw'), role: 'raw' }]))).toBeNull();
  });

  test('readers share', async () => {
    await qemuIo('-r', at('base.qcow2'));
    const readers = [1, 2].map(() => ({ file: opened('base.qcow2'), role: 'metadata' as const }));
    expect(codeAndMessage(() => acquireLocks(readers))).toBeNull();
  });

  test('is refused while another program has the file for itself', () => {
    const alone = openSync(at('disk.raw'), 'r+');
    try {
      // F_OFD_SETLK, F_WRLCK, to the end of the file.
      expect(nativeCalls()?.lock?.(alone, 37, { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 })).toBe(0);
      const refusal = codeAndMessage(() => acquireLocks([{ file: opened('disk.raw'), role: 'raw' }]));
      expect(refusal).toMatchObject({ code: 'file.locked', message: "Could not open 'disk.raw': Failed to lock byte 100" });
    } finally {
      closeSync(alone);
    }
  });

  test('keeps writers out until the file is closed', async () => {
    const source = opened('base.qcow2');
    acquireLocks([{ file: source, role: 'metadata' }]);
    const write = () => runTool('qemu-io', ['-c', 'write 0 512', at('base.qcow2')]);
    const refused = await write();
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('Failed to get "write" lock');
    source.close();
    expect((await write()).code).toBe(0);
  });

  test.each(roles)('%s: the locks are those of qemu-io -r', async (name, role) => {
    const image = name === 'external.data' ? 'external.qcow2' : name;
    await qemuIo('-r', '-f', role === 'raw' ? 'raw' : 'qcow2', at(image));
    const theirs = bytesLocked(name);
    await endHolders();
    acquireLocks([{ file: opened(name), role }]);
    expect(theirs).not.toEqual([]);
    expect(bytesLocked(name)).toEqual(theirs);
  });
});
