import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as vscode from 'vscode';

import { exported } from './exported';
import { workspaceFolder } from './extension';
import { choosesFile, leaves, Person, picks, types } from './person';
import { ImageFolder } from '../harness/imageFolder';

const run = promisify(execFile);
const RUN = /^\$\(check\)/;
const SECRET = ['--object', 'secret,id=s,data=open sesame'];

/** Images with LUKS: the passphrase is asked for where the guest's data is needed, and not again. */
describe('encrypted images', () => {
  let images: ImageFolder;

  before(() => {
    images = new ImageFolder(join(workspaceFolder(), 'encrypted'));
    mkdirSync(images.path);
    const options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10';
    images.qemuImg('create', '-q', ...SECRET, '-f', 'qcow2', '-o', options, 'secret.qcow2', '4M');
    execFileSync(
      'qemu-io',
      [...SECRET, '--image-opts', 'driver=qcow2,file.filename=secret.qcow2,encrypt.key-secret=s', '-c', 'write -P 7 1M 64k'],
      { cwd: images.path, stdio: 'pipe' },
    );
    images.create('over.qcow2', { backing: 'secret.qcow2', size: '4M' });
    images.create('plain.qcow2');
  });

  after(async () => {
    rmSync(images.path, { recursive: true });
    await vscode.commands.executeCommand('chainscope.forgetPassphrases');
    await vscode.commands.executeCommand('chainscope.refresh');
  });

  it('ask again when the passphrase is wrong, and never twice for a right one', async () => {
    const person = await Person.runs(
      'convertImage',
      uri('secret.qcow2'),
      picks(/^raw$/),
      choosesFile(images.of('plain.raw')),
      picks(RUN),
      types('open barley'),
      types('open sesame'),
    );
    await person.hears(/secret\.qcow2 is converted/);
    assert.deepEqual(person.warned, ['That passphrase does not open secret.qcow2. Try another.']);
    execFileSync('qemu-io', ['-f', 'raw', '-c', 'read -P 7 1M 64k', '-c', 'read -P 0 0 1M', 'plain.raw'], { cwd: images.path });

    const comparing = await Person.runs(
      'compareImages',
      uri('secret.qcow2'),
      picks(/Another file/),
      choosesFile(images.of('plain.raw')),
      picks(/^What the guest reads$/),
    );
    await comparing.hears(/a guest reads the same from both/);

    const serving = await Person.runs('startExport', uri('secret.qcow2'), picks(/^Read$/), picks(/^TCP port/), types('0'));
    const told = await serving.hears(/served at nbd:/);
    await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 7 1M 64k', /nbd:\S+/.exec(told)?.[0] ?? '']);
    await exported(({ clients, bytesRead }) => clients === 0 && bytesRead >= 64 * 1024);
    await Person.runs('stopExport', undefined);
  });

  it('show their data in the editor once they are unlocked, as does what builds on them', async () => {
    await vscode.commands.executeCommand('chainscope.forgetPassphrases');
    const person = await Person.runs('unlockImage', uri('over.qcow2'), types('open barley'), types('open sesame'));
    assert.deepEqual([person.warned, person.told], [['That passphrase does not open secret.qcow2. Try another.'], []]);
    // It is known now: nobody is asked.
    assert.deepEqual((await Person.runs('unlockImage', uri('secret.qcow2'))).told, []);
    const plain = await Person.runs('unlockImage', uri('plain.qcow2'));
    await plain.hears(/Neither plain\.qcow2 nor an image below it is encrypted/);
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  });

  it('are asked for anew after somebody gave up on a wrong passphrase', async () => {
    await vscode.commands.executeCommand('chainscope.forgetPassphrases');
    await Person.runs('unlockImage', uri('secret.qcow2'), types('open barley'), leaves());
    const person = await Person.runs('unlockImage', uri('secret.qcow2'), types('open sesame'));
    assert.deepEqual([person.warned, person.told], [[], []]);
    await vscode.commands.executeCommand('workbench.action.closeAllEditors');
  });

  it('are made with a passphrase that is typed twice, and are open from then on', async () => {
    await vscode.commands.executeCommand('chainscope.forgetPassphrases');
    const encrypted = [picks(/^Encryption$/), picks(/^LUKS$/), picks(RUN), types('open, sesame'), types('open, sesame')];
    const making = [picks(/^qcow2$/), types('8M'), choosesFile(images.of('made.qcow2')), ...encrypted];
    const person = await Person.runs('newImage', undefined, ...making);
    await person.hears(/made\.qcow2 is created/);
    const secret = ['--object', 'secret,id=s,data=open,, sesame'];
    const image = (name: string): string => `driver=qcow2,file.filename=${name},encrypt.key-secret=s`;
    const inside = ['-c', 'write -P 7 1M 64k', '-c', 'read -P 0 0 1M'];
    execFileSync('qemu-io', [...secret, '--image-opts', image('made.qcow2'), ...inside], { cwd: images.path, stdio: 'pipe' });

    const converting = await Person.runs(
      'convertImage',
      uri('made.qcow2'),
      picks(/^qcow2$/),
      choosesFile(images.of('made-copy.qcow2')),
      ...encrypted,
    );
    await converting.hears(/made\.qcow2 is converted/);
    execFileSync('qemu-io', [...secret, '--image-opts', image('made-copy.qcow2'), '-c', 'read -P 7 1M 64k'], {
      cwd: images.path,
      stdio: 'pipe',
    });

    // Who gives none makes none.
    const leaving = [picks(/^qcow2$/), types('8M'), choosesFile(images.of('none.qcow2')), picks(/^Encryption$/), picks(/^LUKS$/)];
    await Person.runs('newImage', undefined, ...leaving, picks(RUN), types('open, sesame'), leaves());
    assert.ok(!existsSync(images.of('none.qcow2')));
  });

  it('stay closed when no passphrase is given, and after it was to be forgotten', async () => {
    await vscode.commands.executeCommand('chainscope.forgetPassphrases');
    const person = await Person.runs('startExport', uri('secret.qcow2'), picks(/^Read$/), picks(/^TCP port/), types('0'), leaves());
    assert.deepEqual(person.told, []);
  });

  function uri(name: string): vscode.Uri {
    return vscode.Uri.file(images.of(name));
  }
});
