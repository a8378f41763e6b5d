import { describe, expect, it } from 'vitest';

import type { ChainLink, ImageSummary } from '../../../src/protocol/chain';
import { buildForest, type ForestNode } from '../../../src/shell/chains/forest';
import { rowOf } from '../../../src/shell/chains/rows';
import { active, backing, known, notOpen } from './chainFixtures';

function rootRow(over: Partial<ImageSummary>) {
  return rowOf(firstRoot(known(active('/w/disk.qcow2', over))));
}

function belowRow(link: ChainLink) {
  const child = firstRoot(known(active('/w/top.qcow2'), link)).children[0];
  if (child === undefined) {
    throw new Error('The root has no row below it.');
  }
  return rowOf(child);
}

function firstRoot(...images: Parameters<typeof buildForest>[0]): ForestNode {
  const [root] = buildForest(images).roots;
  if (root === undefined) {
    throw new Error('There is no root.');
  }
  return root;
}

describe('the row of an image', () => {
  it('says format, sizes and cluster size', () => {
    const { label, description, icon } = rootRow({});
    expect([label, description, icon.id]).toEqual(['disk.qcow2', 'qcow2 · 10 GiB · 196 KiB allocated · 64 KiB clusters', 'layers-active']);
  });

  it('says how full a cache image is', () => {
    const { description, tooltip } = rootRow({ cacheQuota: 393_232 });
    expect(description).toBe('qcow2 · 10 GiB · 196 KiB allocated · cache 192 KiB of 384 KiB · 64 KiB clusters');
    expect(tooltip).toContain('| Cache used | 192 KiB of 384 KiB \\(50 \\%\\) |');
  });

  it.each<[string, Partial<ImageSummary>, string, string]>([
    ['dirty', { dirty: true }, 'dirty', 'warning'],
    ['corrupt', { corrupt: true }, 'corrupt', 'error'],
    ['encrypted', { encrypted: true }, 'encrypted', 'key'],
    ['read-only', { readOnly: true }, 'read-only', 'layers-active'],
    ['without a backing format', { backingName: 'base.img' }, 'backing format not recorded', 'info'],
    ['with a bad header', { problems: [{ severity: 'error', message: 'bad', hostOffset: 4 }] }, '1 error', 'error'],
    [
      'in use',
      { usage: { known: true, inUse: true, writing: true, holders: [{ pid: 1234, command: 'qemu-system-x86' }] } },
      'in use by qemu-system-x86 (1234)',
      'vm-running',
    ],
    [
      'marked dirty by this window, which writes it',
      { dirty: true, usage: { known: true, inUse: false, writing: false, holders: [], own: 'writing' } },
      'being written by this window',
      'vm-running',
    ],
    [
      'dirty, and read by this window',
      { dirty: true, usage: { known: true, inUse: false, writing: false, holders: [], own: 'reading' } },
      'in use by this window',
      'warning',
    ],
    ['in use by nobody known', { usage: { known: true, inUse: true, writing: false, holders: [] } }, 'in use', 'vm-running'],
  ])('flags an image that is %s', (_, over, flag, icon) => {
    const row = rootRow(over);
    expect(row.description.split(' · ')).toContain(flag);
    expect(row.icon.id).toBe(icon);
  });

  it('says how many images overlay it', () => {
    const base = backing('/w/base.qcow2');
    const root = firstRoot(known(active('/w/a.qcow2'), base), known(active('/w/b.qcow2'), base), known(active('/w/c.qcow2'), base));
    const row = rowOf(root.children[0] ?? root);
    expect(row.description).toContain('3 overlays');
    expect(row.icon.id).toBe('database');
  });

  it.each([
    [{ kind: 'missing' } as const, 'missing', 'question', ' locatable '],
    [{ kind: 'loop' } as const, 'loop: the chain leads back here', 'sync-ignored', ' loop '],
    [{ kind: 'unreadable', message: 'Is a directory' } as const, 'unreadable: Is a directory', 'error', ' locatable '],
    [{ kind: 'refused', reason: 'outsideWorkspace' } as const, 'not opened: outside the workspace', 'shield', ' grantable '],
  ])('says why a link is not open: %o', (state, description, icon, word) => {
    const row = belowRow(notOpen('/elsewhere/base.qcow2', state));
    expect([row.label, row.description.split(' · ')[0], row.icon.id]).toEqual(['base.qcow2', description, icon]);
    expect(row.context).toContain(word);
  });

  it.each([
    ['retrying', 'reconnecting: The server is gone'],
    ['offline', 'offline: The server is gone'],
  ] as const)('says that a server is %s, and offers to try again', (server, description) => {
    const state = { kind: 'unreadable', message: 'The server is gone', server } as const;
    const row = belowRow({ ...notOpen('nbd://host/base', state), path: null });
    expect([row.description, row.icon.id]).toEqual([description, 'debug-disconnect']);
    expect(row.context).toContain(' unreachable ');
    expect(row.tooltip).toContain('Try Again');
  });

  it('says that an image on a server is connected', () => {
    const row = belowRow({ ...backing('nbd://host/base', { format: 'raw', clusterSize: null }), path: null });
    expect(row.description).toMatch(/^connected · raw/);
    expect(row.context).not.toContain(' unreachable ');
  });

  it('offers access to a network address', () => {
    const link = { ...notOpen('', { kind: 'refused', reason: 'network' }), path: null, recordedName: 'nbd://host/disk' };
    expect(belowRow(link).context).toContain(' grantable ');
    expect(belowRow(link).label).toBe('nbd://host/disk');
  });

  it('offers what can be done with it', () => {
    expect(rootRow({}).context.trim().split(' ')).toEqual(['image', 'open', 'file', 'openable', 'qcow2', 'checkable']);
    expect(rootRow({ format: 'raw', clusterSize: null }).context).not.toContain(' checkable ');
    expect(rootRow({ backingName: 'base.qcow2' }).context).toContain(' backed ');
  });

  it('keeps hostile names on one line and readable', () => {
    const name = '/w/a\u202egnp.\n\u0007qcow2';
    const [root] = buildForest([known(active(name))]).roots;
    expect(root && rowOf(root).label).toBe(String.raw`a\u{202e}gnp.\u{a}\u{7}qcow2`);
  });
});
