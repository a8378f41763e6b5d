import * as path from 'node:path';
import * as vscode from 'vscode';

import { DisposableStore, type Disposable } from '../lifecycle';
import { literalGlob } from '../text/globs';
import { contains } from '../trust/policy';
import type { ChainModel } from './chainModel';
import { Coalescer } from './coalescer';
import type { Forest } from './forest';

/** A burst of changes is over when nothing changed for this long; an image that is written all the time is read again this often. */
const COALESCE = { quietMs: 200, maxMs: 1_000 };

/** More files than this outside the workspace are not watched; the view's Refresh reads them again. */
const MAX_OUTSIDE = 64;

type ChangeKind = 'created' | 'changed' | 'deleted';

/** Watches the workspace's files, and the files of its chains that lie outside, and tells the model what changed. */
export class ChainWatcher implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly outside = new Map<string, vscode.FileSystemWatcher>();
  private readonly model: ChainModel;
  private readonly changes: Coalescer<string>;

  constructor(model: ChainModel) {
    this.model = model;
    this.changes = this.disposables.add(new Coalescer<string>((batch) => this.report(batch), COALESCE));
    this.disposables.add(this.listen(vscode.workspace.createFileSystemWatcher('**/*')));
    this.disposables.add(model.onDidChange(() => this.watchOutside(model.forest)));
    this.watchOutside(model.forest);
  }

  dispose(): void {
    for (const watcher of this.outside.values()) {
      watcher.dispose();
    }
    this.disposables.dispose();
  }

  private listen(watcher: vscode.FileSystemWatcher): vscode.FileSystemWatcher {
    const note = (kind: ChangeKind) => (uri: vscode.Uri) => {
      if (uri.scheme === 'file') {
        this.changes.add(`${kind}\n${uri.fsPath}`);
      }
    };
    watcher.onDidCreate(note('created'));
    watcher.onDidChange(note('changed'));
    watcher.onDidDelete(note('deleted'));
    return watcher;
  }

  private report(batch: ReadonlySet<string>): void {
    const byKind = { created: new Set<string>(), changed: new Set<string>(), deleted: new Set<string>() };
    for (const entry of batch) {
      const end = entry.indexOf('\n');
      byKind[entry.slice(0, end) as ChangeKind].add(entry.slice(end + 1));
    }
    // The model logs what fails; there is nobody here to hear of it.
    this.model.apply(byKind).catch(() => undefined);
  }

  /** The workspace's own watcher sees nothing of backing files elsewhere that the person let be opened. */
  private watchOutside(forest: Forest): void {
    const folders = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
    const wanted = new Set(
      forest.roots
        .flatMap((root) => [root, ...root.children])
        .flatMap((node) => (node.kind === 'image' && node.link.path !== null ? [node.link.path] : []))
        .filter((file) => !folders.some((folder) => contains(folder, file)))
        .slice(0, MAX_OUTSIDE),
    );
    for (const [file, watcher] of this.outside) {
      if (!wanted.has(file)) {
        watcher.dispose();
        this.outside.delete(file);
      }
    }
    for (const file of wanted) {
      if (!this.outside.has(file)) {
        const pattern = new vscode.RelativePattern(vscode.Uri.file(path.dirname(file)), literalGlob(path.basename(file)));
        this.outside.set(file, this.listen(vscode.workspace.createFileSystemWatcher(pattern)));
      }
    }
  }
}
