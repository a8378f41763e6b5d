import * as path from 'node:path';
import * as vscode from 'vscode';

import type { Disposable } from '../lifecycle';
import { contains } from './policy';
import { realPathOf } from './realPath';

interface Folder {
  /** As the person opened it. */
  readonly spelt: string;
  /** With symbolic links resolved. */
  readonly real: string;
}

/** The workspace's folders on this machine, as they are spelt and as they lie on the disk. */
export class WorkspaceFolders implements Disposable {
  private known: Promise<readonly Folder[]> | undefined;
  private readonly listener = vscode.workspace.onDidChangeWorkspaceFolders(() => {
    this.known = undefined;
  });

  /** Absolute paths with symbolic links resolved. */
  async real(): Promise<readonly string[]> {
    return (await this.all()).map(({ real }) => real);
  }

  /** A path with its folder's symbolic links resolved, for comparing it with what the engine reports. */
  async toReal(file: string): Promise<string> {
    return moved(file, await this.all(), 'spelt', 'real');
  }

  /** The way back: a file the engine reports, under the name that the workspace has for it. */
  async toSpelt(file: string): Promise<string> {
    return moved(file, await this.all(), 'real', 'spelt');
  }

  dispose(): void {
    this.listener.dispose();
  }

  private all(): Promise<readonly Folder[]> {
    this.known ??= resolveFolders();
    return this.known;
  }
}

async function resolveFolders(): Promise<readonly Folder[]> {
  const folders = (vscode.workspace.workspaceFolders ?? []).filter(({ uri }) => uri.scheme === 'file').map(({ uri }) => uri.fsPath);
  return Promise.all(folders.map(async (spelt) => ({ spelt, real: await realPathOf(spelt) })));
}

function moved(file: string, folders: readonly Folder[], from: keyof Folder, to: keyof Folder): string {
  const folder = folders.find((each) => contains(each[from], file));
  return folder === undefined ? file : path.join(folder[to], path.relative(folder[from], file));
}
