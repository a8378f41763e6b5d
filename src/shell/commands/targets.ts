import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ChainModel } from '../chains/chainModel';
import { ChainItem } from '../chains/chainTree';
import type { ChainView } from '../chains/chainView';
import { fileOf } from '../chains/forest';
import { rowOf } from '../chains/rows';
import type { ImageEditors } from '../editor/imageEditors';
import { ImagePlace } from '../editor/imagePlace';
import { labelText, plainText } from '../text/plain';
import type { WorkspaceFolders } from '../trust/workspaceFolders';
import { tellInformation } from '../messages';

/**
 * What a command is about. Menus of the tree give the row, those of editors and the explorer a resource; from the palette it is the editor
 * in front, then the selected row, else the person chooses.
 */
export class Targets {
  private readonly parts: {
    readonly model: ChainModel;
    readonly view: ChainView;
    readonly editors: ImageEditors;
    readonly folders: WorkspaceFolders;
  };

  constructor(parts: Targets['parts']) {
    this.parts = parts;
  }

  /** The path that a command is about, as the workspace spells it; null when the person chose none. */
  async file(argument: unknown): Promise<string | null> {
    const given = this.given(argument);
    return given === null ? this.choose() : this.parts.folders.toSpelt(given);
  }

  /** The row that a command is about, when it was run on one. */
  item(argument: unknown): ChainItem | null {
    return argument instanceof ChainItem ? argument : null;
  }

  private given(argument: unknown): string | null {
    if (argument instanceof ChainItem) {
      return fileOf(argument.node);
    }
    if (argument instanceof vscode.Uri) {
      return argument.scheme === 'file' ? argument.fsPath : null;
    }
    if (argument instanceof ImagePlace) {
      return argument.uri.fsPath;
    }
    const { editors, view } = this.parts;
    const [selected] = view.selection;
    return editors.activePath ?? (selected === undefined ? null : fileOf(selected.node));
  }

  private async choose(): Promise<string | null> {
    const { view, model } = this.parts;
    await view.ready();
    const images = new Map<string, vscode.QuickPickItem & { file: string }>();
    for (const node of model.forest.roots.flatMap((root) => [root, ...root.children])) {
      const file = fileOf(node);
      const openable = node.kind === 'failed' || (node.kind === 'image' && node.link.state.kind === 'open');
      if (openable && file !== null && !images.has(file)) {
        const row = rowOf(node);
        images.set(file, { label: labelText(row.label), description: row.description, detail: plainText(path.dirname(file)), file });
      }
    }
    if (images.size === 0) {
      void tellInformation('There are no disk images in this workspace. "Chainscope: Add Image…" adds one from elsewhere.');
      return null;
    }
    const chosen = await vscode.window.showQuickPick([...images.values()], { placeHolder: 'Choose an image', matchOnDescription: true });
    return chosen?.file ?? null;
  }
}
