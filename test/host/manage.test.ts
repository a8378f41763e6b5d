import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as vscode from 'vscode';

import { api, workspaceFolder } from './extension';
import { agrees, choosesFile, failsWith, Person, picks, types } from './person';
import { ImageFolder } from '../harness/imageFolder';
import { ShownTree } from './tree';

interface Info {
  readonly format: string;
  readonly 'virtual-size': number;
  readonly 'backing-filename'?: string;
  readonly 'full-backing-filename'?: string;
  readonly snapshots?: readonly { readonly name: string }[];
  readonly 'format-specific'?: {
    readonly data: {
      readonly bitmaps?: readonly { readonly name: string }[];
      readonly 'refcount-bits'?: number;
      readonly 'data-file'?: string;
    };
  };
}

const RUN = /^\$\(check\)/;
const MIB = 1024 ** 2;

/** The commands that make and change images; qemu-img tells what they did. */
describe('managing images', () => {
  let images: ImageFolder;
  let tree: ShownTree;

  before(async () => {
    images = new ImageFolder(join(workspaceFolder(), 'managed'));
    mkdirSync(images.path);
    tree = new ShownTree(await api());
  });

  after(async () => {
    rmSync(images.path, { recursive: true });
    await vscode.commands.executeCommand('chainscope.refresh');
  });

  it('creates an image with options', async () => {
    const person = await Person.runs(
      'newImage',
      undefined,
      picks(/^qcow2$/),
      types('1G'),
      choosesFile(images.of('disk.qcow2')),
      picks(/^Cluster size$/),
      picks(/^4 KiB$/),
      picks(RUN, /New Image/),
    );
    await person.hears(/disk\.qcow2 is created/);
    assert.equal(info('disk.qcow2')['virtual-size'], 1024 * MIB);
    assert.match(imageInfo('disk.qcow2'), /cluster_size: 4096/);
    check('disk.qcow2');
    await tree.root('disk.qcow2');
  });

  it('says why an image cannot be made', async () => {
    const answers = [choosesFile(images.of('missing-folder/x.qcow2')), picks(RUN)];
    await Person.runs('newOverlay', uri('disk.qcow2'), ...answers, failsWith(/No such file or directory\. Could not open backing image\./));
    assert.ok(!existsSync(images.of('missing-folder')));
  });

  it('puts an overlay on an image, with a relative name', async () => {
    await Person.runs('newOverlay', uri('disk.qcow2'), choosesFile(images.of('top.qcow2')), picks(RUN));
    const { 'backing-filename': backing, 'virtual-size': size } = info('top.qcow2');
    assert.equal(backing, 'disk.qcow2');
    assert.equal(size, 1024 * MIB);
    check('top.qcow2');
    await tree.root('top.qcow2');
  });

  it('grows, and shrinks after saying what that cuts off', async () => {
    await Person.runs('resizeImage', uri('disk.qcow2'), types('+64M'), picks(RUN));
    assert.equal(info('disk.qcow2')['virtual-size'], 1088 * MIB);
    const person = await Person.runs('resizeImage', uri('disk.qcow2'), types('1G'), agrees('Shrink', /^Shrink disk\.qcow2/));
    assert.match(person.asked.join(), /64 MiB/);
    assert.match(person.asked.join(), /top\.qcow2/, 'the overlay that would break');
    assert.equal(info('disk.qcow2')['virtual-size'], 1024 * MIB);
    check('disk.qcow2');
  });

  it('creates, applies and deletes a snapshot', async () => {
    images.create('snap.qcow2');
    images.qemuIo('snap.qcow2', 'write -P 1 0 64k');
    await Person.runs('createSnapshot', uri('snap.qcow2'), types('before'));
    assert.deepEqual(
      info('snap.qcow2').snapshots?.map(({ name }) => name),
      ['before'],
    );
    images.qemuIo('snap.qcow2', 'write -P 2 0 64k');
    const person = await Person.runs('applySnapshot', uri('snap.qcow2'), picks(/^before$/), agrees('Apply', /before/));
    assert.match(person.asked.join(), /lost/);
    images.qemuIo('snap.qcow2', 'read -P 1 0 64k');
    await Person.runs('deleteSnapshot', uri('snap.qcow2'), picks(/^before$/), agrees('Delete'));
    assert.equal(info('snap.qcow2').snapshots, undefined);
    check('snap.qcow2');
  });

  it('adds, disables, merges and removes bitmaps', async () => {
    images.create('marked.qcow2');
    await Person.runs('addBitmap', uri('marked.qcow2'), types('full'), picks(/^64 KiB$/), picks(/^Enabled$/));
    images.qemuIo('marked.qcow2', 'write 1M 64k');
    await Person.runs('disableBitmap', uri('marked.qcow2'), picks(/^full$/));
    await Person.runs('addBitmap', uri('marked.qcow2'), types('more'), picks(/^64 KiB$/), picks(/^Disabled$/));
    await Person.runs('mergeBitmap', uri('marked.qcow2'), picks(/^more$/), picks(/^full$/));
    assert.deepEqual(bitmapsOf('marked.qcow2'), ['full', 'more']);
    await Person.runs('removeBitmap', uri('marked.qcow2'), picks(/^full$/), agrees('Remove'));
    assert.deepEqual(bitmapsOf('marked.qcow2'), ['more']);
    check('marked.qcow2');
  });

  it('amends', async () => {
    images.create('plain.qcow2');
    await Person.runs('amendImage', uri('plain.qcow2'), picks(/^Refcount width$/), picks(/^32 bits$/), picks(RUN));
    assert.equal(info('plain.qcow2')['format-specific']?.data['refcount-bits'], 32);
    await Person.runs('amendImage', uri('plain.qcow2'), picks(/^Size$/), types('80M'), picks(RUN));
    assert.equal(info('plain.qcow2')['virtual-size'], 80 * MIB);
    const person = await Person.runs('amendImage', uri('plain.qcow2'), picks(/^Size$/), types('64M'), picks(RUN), agrees('Amend'));
    assert.match(person.asked.join(), /the last 16 MiB of 80 MiB is deleted/);
    assert.equal(info('plain.qcow2')['virtual-size'], 64 * MIB);
    check('plain.qcow2');
  });

  it('points an image to the place to which its data file was moved', async () => {
    images.create('split.qcow2', { opts: 'data_file=split.data,data_file_raw=on' });
    images.qemuIo('split.qcow2', 'write -P 3 0 64k');
    renameSync(images.of('split.data'), images.of('moved.data'));
    copyFileSync(images.of('moved.data'), images.of('split.data'));
    const person = await Person.runs(
      'amendImage',
      uri('split.qcow2'),
      picks(/^Data file$/),
      choosesFile(images.of('moved.data')),
      picks(RUN),
      agrees('Amend'),
    );
    assert.match(person.asked.join(), /split\.data → moved\.data/);
    rmSync(images.of('split.data'));
    assert.equal(info('split.qcow2')['format-specific']?.data['data-file'], 'moved.data');
    images.qemuIo('split.qcow2', 'read -P 3 0 64k');
  });

  it('rebases and commits', async () => {
    images.create('a.qcow2', { size: '16M' });
    images.qemuIo('a.qcow2', 'write -P 1 0 1M');
    images.create('b.qcow2', { size: '16M' });
    images.qemuImg('create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'over.qcow2');
    images.qemuIo('over.qcow2', 'write -P 2 2M 1M');
    await Person.runs(
      'rebaseImage',
      uri('over.qcow2'),
      picks(/Another image/),
      choosesFile(images.of('b.qcow2')),
      picks(/^Keep/),
      agrees('Rebase'),
    );
    assert.equal(info('over.qcow2')['backing-filename'], 'b.qcow2');
    images.qemuIo('over.qcow2', 'read -P 1 0 1M', 'read -P 2 2M 1M');
    await Person.runs('commitImage', uri('over.qcow2'), agrees('Commit', /into b\.qcow2/));
    images.qemuIo('b.qcow2', 'read -P 1 0 1M', 'read -P 2 2M 1M');
    check('b.qcow2');
    check('over.qcow2');
  });

  it('converts, and leaves what was there when it is cancelled', async () => {
    images.create('large.qcow2', { size: '2G' });
    images.qemuIo('large.qcow2', 'write -P 5 0 512M');
    const somebody = await Person.runs(
      'convertImage',
      uri('snap.qcow2'),
      picks(/^qcow2$/),
      choosesFile(images.of('copy.qcow2')),
      picks(/^Compressed$/),
      picks(RUN),
    );
    await somebody.hears(/snap\.qcow2 is converted/);
    execFileSync('qemu-img', ['compare', 'snap.qcow2', 'copy.qcow2'], { cwd: images.path });
    const before = readFileSync(images.of('copy.qcow2'));
    const files = readdirSync(images.path);
    const person = await Person.watches(
      [picks(/^qcow2$/), choosesFile(images.of('copy.qcow2')), picks(/^Compressed$/), picks(RUN)],
      async (hasty) => {
        hasty.cancelsAt = /[1-9]\d* %/;
        await vscode.commands.executeCommand('chainscope.convertImage', uri('large.qcow2'));
      },
    );
    assert.match(person.progress.join(), /Converting large\.qcow2: \d+ %/);
    assert.deepEqual(person.told, []);
    assert.deepEqual(readdirSync(images.path), files);
    assert.ok(readFileSync(images.of('copy.qcow2')).equals(before));
  });

  it('converts with bitmaps, and saves what can be read of a damaged image', async () => {
    images.create('kept.qcow2');
    images.qemuImg('bitmap', '--add', 'kept.qcow2', 'nightly');
    images.qemuIo('kept.qcow2', 'write -P 4 0 1M');
    const steps = [picks(/^qcow2$/), choosesFile(images.of('kept-copy.qcow2'))];
    await Person.runs('convertImage', uri('kept.qcow2'), ...steps, picks(/^Bitmaps$/), picks(RUN));
    assert.deepEqual(bitmapsOf('kept-copy.qcow2'), ['nightly']);
    check('kept-copy.qcow2');

    // The second half of its data is gone.
    images.create('cut.qcow2');
    images.qemuIo('cut.qcow2', 'write -c -P 4 0 64k', 'write -c -P 5 64k 64k');
    images.patch('cut.qcow2', 0x50000, new Array<number>(1024).fill(0xff));
    const file = [picks(/^raw$/), choosesFile(images.of('saved.raw'))];
    await Person.runs('convertImage', uri('cut.qcow2'), ...file, picks(RUN), failsWith(/error while reading/));
    const person = await Person.runs('convertImage', uri('cut.qcow2'), ...file, picks(/^What cannot be read$/), picks(RUN));
    await person.hears(/128 KiB could not be read and are zeroes there/);
  });

  it('gives no image away that another process writes', async () => {
    const holder = await images.hold('plain.qcow2');
    try {
      await Person.runs('createSnapshot', uri('plain.qcow2'), failsWith(/plain\.qcow2 is in use by qemu-io/));
    } finally {
      await holder.stop();
    }
  });

  function uri(name: string): vscode.Uri {
    return vscode.Uri.file(images.of(name));
  }

  function imageInfo(name: string, ...options: readonly string[]): string {
    return execFileSync('qemu-img', ['info', ...options, name], { cwd: images.path, encoding: 'utf8' });
  }

  function info(name: string): Info {
    return JSON.parse(imageInfo(name, '--output=json')) as Info;
  }

  function bitmapsOf(name: string): readonly string[] {
    return (info(name)['format-specific']?.data.bitmaps ?? []).map((bitmap) => bitmap.name);
  }

  /** Nothing leaked, nothing wrong. */
  function check(name: string): void {
    execFileSync('qemu-img', ['check', name], { cwd: images.path, stdio: 'pipe' });
  }
});
