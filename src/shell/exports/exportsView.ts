import * as vscode from 'vscode';

import type { ExportInfo } from '../../protocol/exports';
import { DisposableStore, type Disposable } from '../lifecycle';
import { labelText } from '../text/plain';
import type { EngineClient } from '../../worker/client';
import { exportContext, exportRow } from './exportRows';

export const EXPORTS_VIEW = 'chainscope.exports';

/** A row of the view; the object stays the same as long as the export lives. */
export class ExportItem {
  info: ExportInfo;

  constructor(info: ExportInfo) {
    this.info = info;
  }
}

/** The view *NBD Exports*: what this window serves, to how many, and how much went through. */
export class ExportsView implements vscode.TreeDataProvider<ExportItem>, Disposable {
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<ExportItem[] | undefined>());
  readonly onDidChangeTreeData = this.changed.event;
  private readonly view: vscode.TreeView<ExportItem>;
  private items = new Map<number, ExportItem>();

  constructor(engine: EngineClient) {
    this.view = this.disposables.add(vscode.window.createTreeView(EXPORTS_VIEW, { treeDataProvider: this }));
    this.disposables.add(engine.onDidChangeExports((exports) => this.show(exports)));
    // Exports end with the worker that had them.
    this.disposables.add(engine.onDidDie(() => this.show([])));
  }

  get exports(): readonly ExportInfo[] {
    return [...this.items.values()].map(({ info }) => info);
  }

  getChildren(item?: ExportItem): ExportItem[] {
    return item === undefined ? [...this.items.values()] : [];
  }

  getTreeItem({ info }: ExportItem): vscode.TreeItem {
    const row = exportRow(info);
    const drawn = new vscode.TreeItem(row.label);
    drawn.id = String(info.id);
    drawn.description = row.description;
    drawn.contextValue = exportContext(info);
    drawn.iconPath = new vscode.ThemeIcon(row.icon);
    drawn.accessibilityInformation = { label: `${row.label}, ${row.description}`, role: 'treeitem' };
    return drawn;
  }

  resolveTreeItem(drawn: vscode.TreeItem, { info }: ExportItem): vscode.TreeItem {
    const tooltip = new vscode.MarkdownString(exportRow(info).tooltip, false);
    tooltip.isTrusted = false;
    tooltip.supportHtml = false;
    drawn.tooltip = tooltip;
    return drawn;
  }

  /** The export that a command is about: its row's, the only one, or the one that the person chooses, of those that fit. */
  async choose(argument: unknown, fits: (info: ExportInfo) => boolean): Promise<ExportInfo | null> {
    if (argument instanceof ExportItem) {
      return argument.info;
    }
    const exports = this.exports.filter(fits);
    if (exports.length <= 1) {
      return exports[0] ?? null;
    }
    const chosen = await vscode.window.showQuickPick(
      exports.map((info) => ({ label: labelText(exportRow(info).label), description: exportRow(info).description, info })),
      { placeHolder: 'Choose an export' },
    );
    return chosen?.info ?? null;
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private show(exports: readonly ExportInfo[]): void {
    const before = this.items;
    const updated: ExportItem[] = [];
    this.items = new Map(
      exports.map((info) => {
        const item = before.get(info.id) ?? new ExportItem(info);
        if (item.info !== info) {
          item.info = info;
          updated.push(item);
        }
        return [info.id, item];
      }),
    );
    const sameRows = before.size === this.items.size && [...this.items.keys()].every((id) => before.has(id));
    this.changed.fire(sameRows ? updated : undefined);
    void vscode.commands.executeCommand('setContext', 'chainscope.serves', exports.length > 0);
    const clients = exports.reduce((sum, info) => sum + info.clients, 0);
    this.view.badge = clients === 0 ? undefined : { value: clients, tooltip: `${clients} connected to NBD exports` };
  }
}
