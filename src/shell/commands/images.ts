import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ImageFormat } from '../../protocol/chain';
import type { ViewState } from '../../protocol/webview';
import type { AddedImages } from '../chains/addedImages';
import type { ChainModel } from '../chains/chainModel';
import { ChainItem } from '../chains/chainTree';
import { CHAINS_VIEW, type ChainView } from '../chains/chainView';
import { nodesOfImage, type ForestNode, type ImageNode } from '../chains/forest';
import { formatByName } from '../chains/imageNames';
import { counted } from '../chains/wording';
import { tabFor, type ImageEditors } from '../editor/imageEditors';
import type { EngineClient } from '../../worker/client';
import { messageOf } from '../errors';
import { labelText, plainText } from '../text/plain';
import type { WorkspaceFolders } from '../trust/workspaceFolders';
import { qemuCommands } from './qemuCommands';
import type { Targets } from './targets';
import { tellInformation } from '../messages';

interface ImageParts {
  readonly engine: EngineClient;
  readonly model: ChainModel;
  readonly view: ChainView;
  readonly added: AddedImages;
  readonly editors: ImageEditors;
  readonly folders: WorkspaceFolders;
  readonly targets: Targets;
}

/** Commands on images and on what the view shows of them. */
export class ImageCommands {
  private readonly parts: ImageParts;

  constructor(parts: ImageParts) {
    this.parts = parts;
  }

  /** *Try Again*: asks the servers of a chain, or without a row of all, whether they answer now. */
  async tryAgain(argument: unknown): Promise<void> {
    const { view } = this.parts;
    const files = argument instanceof ChainItem && argument.node.kind === 'image' ? [argument.node.activeLayer] : undefined;
    await vscode.window.withProgress({ location: { viewId: CHAINS_VIEW } }, () => view.reread(files, true));
  }

  /** *Open Image…*: a row's image at what the row is about, a resource, or a file that the person chooses. */
  async open(argument: unknown): Promise<void> {
    const { editors, folders, targets } = this.parts;
    if (argument === undefined) {
      for (const uri of await chooseFiles('Open Disk Image', 'Open')) {
        await editors.open(uri.fsPath);
      }
      return;
    }
    const file = await targets.file(argument);
    if (file !== null) {
      await editors.open(await folders.toSpelt(file), argument instanceof ChainItem ? placeOf(argument.node) : null);
    }
  }

  /** *Add Image…*: a raw image, which nothing but the person tells, or one that lies elsewhere. */
  async add(argument: unknown): Promise<void> {
    const files = argument instanceof vscode.Uri ? [argument] : await chooseFiles('Add Disk Image', 'Add');
    for (const { fsPath } of files.filter(({ scheme }) => scheme === 'file')) {
      await this.parts.added.add({ path: fsPath, format: await this.formatOf(fsPath) });
    }
    const last = files.at(-1);
    if (last !== undefined) {
      await this.parts.view.refresh();
      await this.parts.view.reveal(last.fsPath);
    }
  }

  /** *Remove Image*: takes an added image out of the view; the file stays. */
  async remove(argument: unknown): Promise<void> {
    const { added, targets, view } = this.parts;
    const file = argument === undefined ? await chooseAdded(added) : await targets.file(argument);
    if (file !== null) {
      await added.remove(file);
      await view.refresh();
    }
  }

  /** *Show Overlays*: the images that have this one as their backing file; the chosen one is selected in the view. */
  async showOverlays(argument: unknown): Promise<void> {
    const { model, targets, view } = this.parts;
    const file = await targets.file(argument);
    if (file === null) {
      return;
    }
    await view.ready();
    const overlays = await this.overlaysOf(file);
    if (overlays.length === 0) {
      void tellInformation(`No image of ${counted(model.forest.roots.length, 'chain')} has ${nameOf(file)} as its backing file.`);
      return;
    }
    const chosen = await vscode.window.showQuickPick(
      overlays.map((overlay) => ({ label: labelText(path.basename(overlay)), description: plainText(path.dirname(overlay)), overlay })),
      { title: `${counted(overlays.length, 'overlay')} of ${nameOf(file)}`, placeHolder: 'Choose one to select it in Chains' },
    );
    if (chosen !== undefined) {
      await view.reveal(chosen.overlay);
    }
  }

  /** Selects the image that a row refers to, or that an editor shows. */
  async reveal(argument: unknown): Promise<void> {
    const file = await this.parts.targets.file(argument);
    if (file !== null && !(await this.parts.view.reveal(file))) {
      void tellInformation(`${nameOf(file)} is in no chain of this workspace. "Chainscope: Add Image…" adds it.`);
    }
  }

  /** *Go to Address…*: asks the engine what an address means while it is typed. */
  async goToAddress(): Promise<void> {
    const { editors } = this.parts;
    const document = editors.activePath === null ? undefined : editors.documentOf(editors.activePath);
    if (document === undefined) {
      void tellInformation('Open an image first: an address is a place in the image whose editor is in front.');
      return;
    }
    const { session } = await document.opened();
    const locate = (address: string) => session.call('locate', { address, space: 'guest' });
    const address = await vscode.window.showInputBox({
      title: 'Go to Address',
      prompt: 'A guest offset, h: for a host offset, c: for a guest cluster; decimal, hexadecimal, with units',
      placeHolder: '4G, 0x1f0000, c:1024, h:64K',
      validateInput: async (value) => {
        if (value.trim() === '') {
          return null;
        }
        try {
          return { message: (await locate(value)).understood, severity: vscode.InputBoxValidationSeverity.Info };
        } catch (error) {
          return messageOf(error);
        }
      },
    });
    if (address === undefined || address.trim() === '') {
      return;
    }
    const { space, offset } = await locate(address);
    const place = space === 'guest' ? ({ kind: 'guest', guestOffset: offset } as const) : ({ kind: 'host', hostOffset: offset } as const);
    editors.showInActive({ tab: tabFor(place), place });
  }

  /** *Copy as qemu-img Command*. */
  async copyAsQemuImg(argument: unknown): Promise<void> {
    const file = await this.parts.targets.file(argument);
    if (file === null) {
      return;
    }
    const image = (await this.nodeOf(file))?.link.image ?? null;
    const commands = qemuCommands(
      {
        path: file,
        format: image?.format ?? (await this.formatOf(file)),
        inUse: image?.usage.inUse ?? false,
        hasSnapshots: (image?.snapshots.length ?? 0) > 0,
      },
      process.platform,
    );
    const chosen = await vscode.window.showQuickPick(
      commands.map(({ title, command }) => ({ label: title, detail: plainText(command, 1_000), command })),
      { title: `qemu-img commands for ${nameOf(file)}`, placeHolder: 'Choose one to copy it' },
    );
    if (chosen !== undefined) {
      await vscode.env.clipboard.writeText(chosen.command);
      vscode.window.setStatusBarMessage('$(copy) Copied the qemu-img command', 3_000);
    }
  }

  async copyPath(argument: unknown): Promise<void> {
    const file = await this.parts.targets.file(argument);
    if (file !== null) {
      await vscode.env.clipboard.writeText(file);
    }
  }

  /** Shows the file in VS Code's own explorer, or in the system's when it lies outside the workspace. */
  async revealFile(argument: unknown): Promise<void> {
    const file = await this.parts.targets.file(argument);
    if (file !== null) {
      const uri = vscode.Uri.file(file);
      const inside = vscode.workspace.getWorkspaceFolder(uri) !== undefined;
      await vscode.commands.executeCommand(inside ? 'revealInExplorer' : 'revealFileInOS', uri);
    }
  }

  private async formatOf(file: string): Promise<ImageFormat> {
    const [probed] = await this.parts.engine.probeFiles([file]);
    return probed ?? formatByName(file) ?? 'raw';
  }

  private async overlaysOf(file: string): Promise<readonly string[]> {
    return (await this.nodeOf(file))?.overlays ?? [];
  }

  private async nodeOf(file: string): Promise<ImageNode | null> {
    const { forest } = this.parts.model;
    const real = await this.parts.folders.toReal(file);
    const ids = new Set([...nodesOfImage(forest, file), ...nodesOfImage(forest, real)]);
    const found = forest.roots.flatMap((root) => [root, ...root.children]).find((node) => ids.has(node.id));
    return found?.kind === 'image' ? found : null;
  }
}

function placeOf(node: ForestNode): ViewState | null {
  switch (node.kind) {
    case 'snapshot':
      return { tab: 'snapshots', place: { kind: 'snapshot', index: node.snapshot.index } };
    case 'bitmap':
      return { tab: 'snapshots', place: { kind: 'bitmap', index: node.bitmap.index } };
    case 'image':
    case 'failed':
    case 'snapshots':
    case 'bitmaps':
    case 'overlays':
    case 'overlay':
      return null;
  }
}

async function chooseFiles(title: string, openLabel: string): Promise<readonly vscode.Uri[]> {
  const chosen = await vscode.window.showOpenDialog({
    title,
    openLabel,
    canSelectMany: true,
    filters: { 'Disk images': ['qcow2', 'qcow', 'qed', 'vmdk', 'img', 'raw'], 'All files': ['*'] },
  });
  return chosen ?? [];
}

async function chooseAdded(added: AddedImages): Promise<string | null> {
  if (added.all.length === 0) {
    void tellInformation('No image was added by hand.');
    return null;
  }
  const chosen = await vscode.window.showQuickPick(
    added.all.map(({ path: file }) => ({ label: labelText(path.basename(file)), description: plainText(path.dirname(file)), file })),
    { placeHolder: 'Choose an image to remove from the view; the file stays' },
  );
  return chosen?.file ?? null;
}

function nameOf(file: string): string {
  return plainText(path.basename(file));
}
