import * as vscode from 'vscode';

import type { Disposable } from '../lifecycle';
import { DisposableStore } from '../lifecycle';
import { SECTION } from '../settings';
import type { WorkspaceFolders } from '../trust/workspaceFolders';
import type { ChainModel } from './chainModel';
import { ChainTree, type ChainItem } from './chainTree';
import { ChainWatcher } from './chainWatcher';
import type { Expansion } from './expansion';

export const CHAINS_VIEW = 'chainscope.chains';

/** Locks come and go without a trace in the file system: while the view is in sight it is read again this often, in milliseconds. */
const REREAD_MS = 10_000;

/** A view that comes into sight is read again unless that was done just now. */
const STALE_MS = 2_000;

/** More images than this are not read again all the time only to see who uses them. */
const MANY_IMAGES = 300;

/** The view in the side bar: the tree, its messages, and what makes it look again. Nothing is looked at before it is first shown. */
export class ChainView implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly model: ChainModel;
  private readonly folders: WorkspaceFolders;
  private readonly tree: ChainTree;
  private readonly view: vscode.TreeView<ChainItem>;
  private scanned: Promise<void> | undefined;
  private readAt = 0;

  constructor(model: ChainModel, folders: WorkspaceFolders, expansion: Expansion) {
    this.model = model;
    this.folders = folders;
    this.tree = this.disposables.add(new ChainTree(model, expansion, () => this.firstScan()));
    this.view = this.disposables.add(vscode.window.createTreeView(CHAINS_VIEW, { treeDataProvider: this.tree, showCollapseAll: true }));

    this.disposables.add(this.view.onDidExpandElement(({ element }) => void expansion.set(element.id, true)));
    this.disposables.add(this.view.onDidCollapseElement(({ element }) => void expansion.set(element.id, false)));
    this.disposables.add(this.view.onDidChangeVisibility(() => this.rereadWhenStale()));
    this.disposables.add(vscode.window.onDidChangeWindowState(() => this.rereadWhenStale()));
    this.disposables.add(vscode.workspace.onDidChangeWorkspaceFolders(() => void this.refreshIfScanned()));
    this.disposables.add(vscode.workspace.onDidGrantWorkspaceTrust(() => void this.refreshIfScanned()));
    this.disposables.add(
      vscode.workspace.onDidChangeConfiguration((event) => {
        if (event.affectsConfiguration(`${SECTION}.discovery`) || event.affectsConfiguration('files.exclude')) {
          void this.refreshIfScanned();
        }
      }),
    );
    this.disposables.add(model.onDidChange(() => this.showMessage()));
  }

  /** What the view shows, row by row. */
  get provider(): vscode.TreeDataProvider<ChainItem> {
    return this.tree;
  }

  /** What the person selected. */
  get selection(): readonly ChainItem[] {
    return this.view.selection;
  }

  /** Resolves when the workspace was looked at for the first time, which this starts if nothing did before. */
  ready(): Promise<void> {
    return this.firstScan();
  }

  /** Looks at the whole workspace again; errors are logged by the model and told here. */
  async refresh(): Promise<void> {
    if (this.scanned === undefined) {
      await this.firstScan();
    } else {
      await this.scan();
    }
  }

  /** Looks again at the chains that one of these files takes part in; at all without. Nothing when the view was never shown. `fresh` as in the model. */
  async reread(files?: readonly string[], fresh = false): Promise<void> {
    if (this.scanned !== undefined) {
      await this.scanned;
      await this.model.reread(files, fresh);
    }
  }

  /** Selects an image's row; false when it has none. */
  async reveal(file: string): Promise<boolean> {
    await this.firstScan();
    const item = this.tree.find(file) ?? this.tree.find(await this.folders.toReal(file));
    if (item === undefined) {
      return false;
    }
    await this.view.reveal(item, { select: true, focus: true, expand: true });
    return true;
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private firstScan(): Promise<void> {
    if (this.scanned === undefined) {
      // What changes while the first scan is under way waits in the model's queue behind it.
      this.disposables.add(new ChainWatcher(this.model));
      this.keepReading();
      this.scanned = this.scan();
    }
    return this.scanned;
  }

  private async refreshIfScanned(): Promise<void> {
    if (this.scanned !== undefined) {
      await this.refresh();
    }
  }

  private async scan(): Promise<void> {
    this.readAt = Date.now();
    await vscode.window.withProgress({ location: { viewId: CHAINS_VIEW } }, async () => {
      try {
        await this.model.refresh();
      } catch {
        // The model has logged it.
        this.view.message = 'The images could not be looked at. The log says why (Chainscope: Show Log).';
        return;
      }
      this.showMessage();
    });
  }

  private keepReading(): void {
    const timer = setInterval(() => {
      if (this.model.forest.roots.length <= MANY_IMAGES) {
        this.rereadWhenStale();
      }
    }, REREAD_MS);
    this.disposables.add({ dispose: () => clearInterval(timer) });
  }

  private rereadWhenStale(): void {
    if (this.scanned !== undefined && this.view.visible && vscode.window.state.focused && Date.now() - this.readAt > STALE_MS) {
      this.readAt = Date.now();
      this.model.reread().catch(() => undefined);
    }
  }

  private showMessage(): void {
    const { roots } = this.model.forest;
    const messages = [
      ...(!vscode.workspace.isTrusted && roots.length > 0 ? ['Restricted mode: no file is opened because an image names it.'] : []),
      ...(this.model.isTruncated ? ['Not all files were looked at; the setting Chainscope › Discovery: Max Files limits them.'] : []),
    ];
    this.view.message = messages.length === 0 ? '' : messages.join(' ');
  }
}
