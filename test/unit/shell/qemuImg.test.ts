import { describe, expect, it } from 'vitest';

import type { ManageMethod, ManageRequests } from '../../../src/protocol/manage';
import { qemuImgCommand } from '../../../src/shell/commands/manage/qemuImg';

const DISK = { path: '/vm/disk.qcow2', format: 'qcow2' } as const;

function command<M extends ManageMethod>(method: M, params: ManageRequests[M]['params']): string {
  return qemuImgCommand(method, params, 'linux');
}

describe('an operation as a qemu-img command', () => {
  it('creates', () => {
    expect(command('create', { path: '/vm/new.qcow2', format: 'qcow2', size: 20 * 1024 ** 3, backing: null, options: {} })).toBe(
      'qemu-img create -f qcow2 /vm/new.qcow2 20G',
    );
    expect(
      command('create', {
        path: '/vm/over it.qcow2',
        format: 'qcow2',
        size: null,
        backing: { name: 'disk.qcow2', format: 'qcow2' },
        options: { cluster_size: '64K', data_file: '/a,b' },
      }),
    ).toBe("qemu-img create -f qcow2 -b disk.qcow2 -F qcow2 -o cluster_size=64K,data_file=/a,,b '/vm/over it.qcow2'");
  });

  it('creates what a passphrase encrypts, which is not said', () => {
    const options = { 'encrypt.format': 'luks' };
    expect(command('create', { path: '/vm/new.qcow2', format: 'qcow2', size: 1024 ** 3, backing: null, options })).toBe(
      'qemu-img create --object secret,id=sec0,file=passphrase.txt -f qcow2 -o encrypt.format=luks,encrypt.key-secret=sec0 /vm/new.qcow2 1G',
    );
  });

  it('resizes', () => {
    expect(command('resize', { ...DISK, size: 1536, shrink: true, preallocation: 'off' })).toBe(
      'qemu-img resize -f qcow2 --shrink /vm/disk.qcow2 1536',
    );
    expect(command('resize', { ...DISK, size: 1024 ** 3, shrink: false, preallocation: 'falloc' })).toBe(
      'qemu-img resize -f qcow2 --preallocation=falloc /vm/disk.qcow2 1073741824',
    );
  });

  it('handles snapshots and bitmaps', () => {
    expect(command('snapshotApply', { ...DISK, snapshot: "it's" })).toBe(String.raw`qemu-img snapshot -a 'it'\''s' /vm/disk.qcow2`);
    expect(command('snapshotDelete', { ...DISK, id: '1', name: 'before' })).toBe('qemu-img snapshot -d before /vm/disk.qcow2');
    expect(command('bitmapAdd', { ...DISK, bitmap: 'b', granularity: 65_536, enabled: false })).toBe(
      'qemu-img bitmap -f qcow2 --add -g 64K --disable /vm/disk.qcow2 b',
    );
    expect(command('bitmapMerge', { ...DISK, bitmap: 'b', source: { path: '/vm/base.qcow2', format: 'qcow2', bitmap: 'a' } })).toBe(
      'qemu-img bitmap -f qcow2 --merge a -b /vm/base.qcow2 -F qcow2 /vm/disk.qcow2 b',
    );
  });

  it('works on chains', () => {
    expect(command('rebase', { ...DISK, backing: null, unsafe: false })).toBe("qemu-img rebase -f qcow2 -b '' /vm/disk.qcow2");
    expect(command('rebase', { ...DISK, backing: { name: 'b.raw', format: 'raw' }, unsafe: true })).toBe(
      'qemu-img rebase -f qcow2 -u -b b.raw -F raw /vm/disk.qcow2',
    );
    expect(command('commit', { ...DISK, base: '/vm/base.qcow2', keepTop: true })).toBe(
      'qemu-img commit -f qcow2 -b /vm/base.qcow2 -d /vm/disk.qcow2',
    );
  });

  it('converts, measures and compares', () => {
    expect(
      command('convert', {
        source: DISK,
        snapshot: '1',
        target: '/vm/c.qcow2',
        targetFormat: 'qcow2',
        options: {},
        compress: true,
        salvage: true,
        bitmaps: true,
      }),
    ).toBe('qemu-img convert -f qcow2 -O qcow2 -c --salvage --bitmaps --skip-broken-bitmaps -l 1 /vm/disk.qcow2 /vm/c.qcow2');
    expect(command('measure', { source: DISK, targetFormat: 'raw', options: {} })).toBe('qemu-img measure -f qcow2 -O raw /vm/disk.qcow2');
    expect(command('compare', { first: DISK, second: { path: '/vm/d.raw', format: 'raw' }, strict: true })).toBe(
      'qemu-img compare -f qcow2 -F raw -s /vm/disk.qcow2 /vm/d.raw',
    );
  });
});
