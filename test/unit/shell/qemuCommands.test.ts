import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { qemuCommands, quoted } from '../../../src/shell/commands/qemuCommands';

describe('the qemu-img commands of an image', () => {
  const subject = { path: '/w/my disk.qcow2', format: 'qcow2', inUse: false, hasSnapshots: true } as const;

  it('name the format and quote the path', () => {
    expect(qemuCommands(subject, 'linux').map(({ command }) => command)).toEqual([
      `qemu-img info --backing-chain -f qcow2 '/w/my disk.qcow2'`,
      `qemu-img check -f qcow2 '/w/my disk.qcow2'`,
      `qemu-img map --output=json -f qcow2 '/w/my disk.qcow2'`,
      `qemu-img snapshot -l '/w/my disk.qcow2'`,
    ]);
  });

  it('take no locks from whoever uses it', () => {
    expect(qemuCommands({ ...subject, inUse: true }, 'linux').every(({ command }) => command.includes(' -U '))).toBe(true);
  });

  it('do not check what has nothing to check', () => {
    expect(qemuCommands({ ...subject, format: 'raw', hasSnapshots: false }, 'linux').map(({ title }) => title)).toEqual([
      'Information about the chain',
      'Allocation map as JSON',
    ]);
  });

  it('pass any path through a shell unchanged', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, maxLength: 60 }).map((text) => text.replaceAll('\0', '')),
        (path) => {
          expect(execFileSync('/bin/sh', ['-c', `printf %s ${quoted(path, 'linux')}`], { encoding: 'utf8' })).toBe(path);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('quote for Windows too', () => {
    expect([quoted(String.raw`C:\disks\a.qcow2`, 'win32'), quoted(String.raw`C:\my disks\a.qcow2`, 'win32')]).toEqual([
      String.raw`C:\disks\a.qcow2`,
      String.raw`"C:\my disks\a.qcow2"`,
    ]);
  });
});
