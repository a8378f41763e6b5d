import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import { api, workspaceFolder } from './extension';
import { ImageFolder } from '../harness/imageFolder';
import { ShownTree, type ShownRow } from './tree';

/** A chain as an outline of labels, indented by depth. */
function outline({ label, children }: ShownRow, depth = 0): string[] {
  return ['  '.repeat(depth) + label, ...children.flatMap((child) => outline(child, depth + 1))];
}

function child({ children }: ShownRow, label: string): ShownRow {
  const found = children.find((row) => row.label === label);
  assert.ok(found, `There is no row ${label} below.`);
  return found;
}

describe('the view Chains', () => {
  let extensionApi: ChainscopeApi;
  let tree: ShownTree;
  let images: ImageFolder;
  let outside: string;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'made'));
    mkdirSync(images.path);
    outside = mkdtempSync(join(tmpdir(), 'chainscope-outside-'));

    images.create('base.qcow2', { opts: 'cluster_size=128k' });
    images.create('mid.qcow2', { backing: 'base.qcow2' });
    images.create('top.qcow2', { backing: 'mid.qcow2' });
    images.qemuImg('snapshot', '-c', 'before', 'top.qcow2');
    images.qemuImg('bitmap', '--add', 'top.qcow2', 'backup');

    images.create('orphan.qcow2', { backing: 'nowhere.qcow2' });

    images.create('ring-a.qcow2');
    images.create('ring-b.qcow2', { backing: 'ring-a.qcow2' });
    images.qemuImg('rebase', '-u', '-b', 'ring-b.qcow2', '-F', 'qcow2', 'ring-a.qcow2');

    images.create('no-format.qcow2', { backing: 'base.qcow2' });
    // The backing format's header extension, of which no reader knows the type any more.
    images.patch('no-format.qcow2', 112, [0x12, 0x34, 0x56, 0x78]);

    images.create('dirty.qcow2', { opts: 'lazy_refcounts=on' });
    images.patch('dirty.qcow2', 79, [1]);
    images.create('corrupt.qcow2');
    images.patch('corrupt.qcow2', 79, [2]);
    images.create('bad-header.qcow2');
    images.patch('bad-header.qcow2', 0, [0, 0, 0, 0]);
    writeFileSync(images.of('empty.qcow2'), '');

    images.create('old.qed', { format: 'qed' });
    images.create('by-content.bin', { format: 'vmdk' });
    writeFileSync(images.of('notes.txt'), 'An image begins with QFI\xfb.', 'latin1');
    images.create('disk.raw', { format: 'raw' });
    images.create('over-raw.qcow2', { backing: 'disk.raw', backingFormat: 'raw' });

    new ImageFolder(outside).create('outside.qcow2');
    images.create('leads-out.qcow2', { backing: join(outside, 'outside.qcow2') });
    symlinkSync(join(outside, 'outside.qcow2'), images.of('link.bin'));
    images.create('leads-out-by-link.qcow2', { backing: 'link.bin' });
    images.create('to-network.qcow2', { backing: 'nbd://192.0.2.1/disk', backingFormat: 'raw' });
    images.create('markup\u202e [x](command:y) <b>.qcow2');

    extensionApi = await api();
    tree = new ShownTree(extensionApi);
    await vscode.commands.executeCommand('chainscope.refresh');
  });

  after(() => {
    rmSync(images.path, { recursive: true });
    rmSync(outside, { recursive: true });
  });

  it('shows a chain down to its base, with snapshots and bitmaps', async () => {
    const top = await tree.root('top.qcow2');
    assert.deepEqual(outline(top), [
      'top.qcow2',
      '  Snapshots',
      '    before',
      '  Bitmaps',
      '    backup',
      '  mid.qcow2',
      '  base.qcow2',
      '    Overlays',
      '      mid.qcow2',
      '      no-format.qcow2',
    ]);
    assert.match(top.description, /^qcow2 · 64 MiB · .* allocated · .*64 KiB clusters/);
    const base = child(top, 'base.qcow2');
    assert.match(base.description, /2 overlays · 128 KiB clusters/);
    assert.equal(base.icon, 'database');
  });

  it('shows a missing backing file and offers to locate it', async () => {
    const missing = child(await tree.root('orphan.qcow2'), 'nowhere.qcow2');
    assert.match(missing.description, /^missing/);
    assert.match(missing.context, / locatable /);
  });

  it('shows a loop once', async () => {
    const rows = await tree.rows();
    assert.deepEqual(
      rows.filter(({ label }) => label.startsWith('ring')).map((row) => outline(row)),
      [['ring-a.qcow2', '  ring-b.qcow2', '  ring-a.qcow2']],
    );
    const loop = (await tree.root('ring-a.qcow2')).children[1];
    assert.match(loop?.description ?? '', /^loop/);
  });

  it('flags what is noteworthy', async () => {
    const flags = async (label: string): Promise<string[]> => {
      const { icon, description } = await tree.root(label);
      return [icon, description];
    };
    assert.match((await flags('no-format.qcow2')).join(), /^info,.*backing format not recorded/);
    assert.match((await flags('dirty.qcow2')).join(), /^warning,.*dirty/);
    assert.match((await flags('corrupt.qcow2')).join(), /^error,.*corrupt/);
    assert.match((await flags('bad-header.qcow2')).join(), /^error,.*error/);
    assert.match((await flags('empty.qcow2')).join(), /^error,/);
  });

  it('tells which process uses an image', async () => {
    const holder = await images.hold('mid.qcow2');
    try {
      await vscode.commands.executeCommand('chainscope.refresh');
      const mid = child(await tree.root('top.qcow2'), 'mid.qcow2');
      assert.ok(mid.description.startsWith(`in use by qemu-io (${holder.pid}) · qcow2`), mid.description);
      assert.equal(mid.icon, 'vm-running');
    } finally {
      await holder.stop();
    }
    await vscode.commands.executeCommand('chainscope.refresh');
    assert.doesNotMatch(child(await tree.root('top.qcow2'), 'mid.qcow2').description, /in use/);
  });

  it('finds images by their content and leaves other files alone', async () => {
    const labels = (await tree.rows()).map(({ label }) => label);
    assert.ok(labels.includes('old.qed'));
    assert.ok(labels.includes('by-content.bin'));
    for (const other of ['notes.txt', 'disk.raw']) {
      assert.ok(!labels.includes(other), `${other} is no root`);
    }
    assert.deepEqual(outline(await tree.root('over-raw.qcow2')), ['over-raw.qcow2', '  disk.raw']);
  });

  it('opens nothing outside the workspace because an image names it', async () => {
    const direct = child(await tree.root('leads-out.qcow2'), 'outside.qcow2');
    assert.match(direct.description, /^not opened: outside the workspace/);
    assert.match(direct.context, / grantable /);
    // A link inside the workspace leads out too.
    const byLink = child(await tree.root('leads-out-by-link.qcow2'), 'link.bin');
    assert.match(byLink.description, /^not opened: outside the workspace/);
    const network = child(await tree.root('to-network.qcow2'), 'nbd://192.0.2.1/disk');
    assert.match(network.description, /^not opened: a network address/);
    assert.match(network.context, / grantable /);
  });

  it('keeps names from being anything but names', async () => {
    const row = (await tree.rows()).find(({ label }) => label.startsWith('markup'));
    assert.equal(row?.label, String.raw`markup\u{202e} [x](command:y) <b>.qcow2`);
    const drawn = new vscode.TreeItem('');
    const resolved = await tree.provider.resolveTreeItem?.(drawn, row.item, new vscode.CancellationTokenSource().token);
    assert.ok(resolved?.tooltip instanceof vscode.MarkdownString);
    assert.notEqual(resolved.tooltip.isTrusted, true);
    assert.notEqual(resolved.tooltip.supportHtml, true);
    assert.ok(resolved.tooltip.value.includes(String.raw`\[x\]\(command\:y\) &lt;b&gt;`));
  });

  it('reveals an image, also one deep in a chain', async () => {
    assert.equal(await extensionApi.chains.reveal(images.of('base.qcow2')), true);
    assert.equal(extensionApi.chains.selection[0]?.node.kind, 'image');
    assert.match(extensionApi.chains.selection[0].id, /base\.qcow2$/);
    assert.equal(await extensionApi.chains.reveal(images.of('notes.txt')), false);
  });

  it('knows the parent of every row', async () => {
    const walk = async (rows: readonly ShownRow[], parent: ShownRow | undefined): Promise<void> => {
      for (const row of rows) {
        assert.equal(await tree.provider.getParent?.(row.item), parent?.item);
        await walk(row.children, row);
      }
    };
    await walk(await tree.rows(), undefined);
  });

  describe('follows the file system:', () => {
    it('a new image, a renamed one, a deleted one', async () => {
      images.create('fresh.qcow2');
      await tree.until((rows) => rows.some(({ label }) => label === 'fresh.qcow2'), 'the new image');
      renameSync(images.of('fresh.qcow2'), images.of('renamed.qcow2'));
      await tree.until(
        (rows) => rows.some(({ label }) => label === 'renamed.qcow2') && !rows.some(({ label }) => label === 'fresh.qcow2'),
        'the renamed image',
      );
      rmSync(images.of('renamed.qcow2'));
      await tree.until((rows) => !rows.some(({ label }) => label === 'renamed.qcow2'), 'the image gone');
    });

    it('a base that appears where it was missing, and goes again', async () => {
      images.create('nowhere.qcow2');
      await tree.until((rows) => stateOf(rows, 'orphan.qcow2', 'nowhere.qcow2') === 'open', 'the base found');
      rmSync(images.of('nowhere.qcow2'));
      await tree.until((rows) => stateOf(rows, 'orphan.qcow2', 'nowhere.qcow2') === 'missing', 'the base missing again');
    });

    it('an image that grows, and tells the view of its row alone', async () => {
      const grows = async (command: string): Promise<void> => {
        const before = (await tree.root('top.qcow2')).description;
        images.qemuIo('top.qcow2', command);
        await tree.until((rows) => rows.find(({ label }) => label === 'top.qcow2')?.description !== before, 'more bytes allocated');
      };
      // What was changed before this has been told then.
      await grows('write -P 1 0 1M');
      const changes = tree.changes();
      await grows('write -P 1 0 4M');
      changes.dispose();
      assert.deepEqual(new Set(changes.seen.flat()), new Set([images.of('top.qcow2')]));
    });

    it('a folder with images that is moved in, and removed', async () => {
      const prepared = new ImageFolder(mkdtempSync(join(workspaceFolder(), '..', 'prepared-')));
      prepared.create('moved.qcow2');
      const inside = images.of('folder');
      renameSync(prepared.path, inside);
      await tree.until((rows) => rows.some(({ label }) => label === 'moved.qcow2'), 'the image in the new folder');
      rmSync(inside, { recursive: true });
      await tree.until((rows) => !rows.some(({ label }) => label === 'moved.qcow2'), 'the folder gone');
    });

    function stateOf(rows: readonly ShownRow[], root: string, label: string): string | undefined {
      const row = rows.find((each) => each.label === root)?.children.find((each) => each.label === label);
      return row?.item.node.kind === 'image' ? row.item.node.link.state.kind : undefined;
    }
  });

  describe('follows the settings:', () => {
    it('files.exclude and its own globs', async () => {
      const settings = vscode.workspace.getConfiguration();
      await settings.update('files.exclude', { '**/old.qed': true }, vscode.ConfigurationTarget.Workspace);
      await tree.until((rows) => !rows.some(({ label }) => label === 'old.qed'), 'the excluded image gone');
      await settings.update('files.exclude', undefined, vscode.ConfigurationTarget.Workspace);
      await tree.until((rows) => rows.some(({ label }) => label === 'old.qed'), 'the image back');

      await settings.update('chainscope.discovery.include', ['**/*.qed'], vscode.ConfigurationTarget.Workspace);
      await tree.until((rows) => rows.map(({ label }) => label).join() === 'old.qed', 'nothing but what is included');
      await settings.update('chainscope.discovery.include', undefined, vscode.ConfigurationTarget.Workspace);
      await tree.until((rows) => rows.length > 10, 'all images back');
    });
  });

  describe('takes images by hand:', () => {
    it('a raw one, until it is removed', async () => {
      const uri = vscode.Uri.file(join(outside, 'plain.raw'));
      new ImageFolder(outside).create('plain.raw', { format: 'raw' });
      await vscode.commands.executeCommand('chainscope.addImage', uri);
      const added = await tree.root('plain.raw');
      assert.match(added.description, /^raw · 64 MiB/);
      assert.match(added.context, / added /);
      await vscode.commands.executeCommand('chainscope.removeImage', uri);
      await tree.until((rows) => !rows.some(({ label }) => label === 'plain.raw'), 'the image removed');
    });
  });
});
