import * as vscode from 'vscode';

import { DisposableStore, type Disposable } from '../lifecycle';
import type { ChainModel } from './chainModel';
import type { Expansion } from './expansion';
import { nodesOfImage, type ForestNode } from './forest';
import type { ForestChange } from './forestDiff';
import { rowOf } from './rows';

/**
 * A row as VS Code holds on to it. The object stays the same as long as the row's id does, so that a change can be told of it alone;
 * what it shows is replaced.
 */
export class ChainItem {
  readonly id: string;
  readonly parent: ChainItem | undefined;
  /** How the row starts out; what the person does to it later VS Code remembers by the id. */
  readonly expanded: boolean;
  node: ForestNode;

  constructor(node: ForestNode, parent: ChainItem | undefined, expanded: boolean) {
    this.id = node.id;
    this.node = node;
    this.parent = parent;
    this.expanded = expanded;
  }
}

/** Chains beyond this number start out collapsed. */
const MAX_EXPANDED = 12;

/** The view *Chains*. */
export class ChainTree implements vscode.TreeDataProvider<ChainItem>, Disposable {
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<ChainItem[] | undefined>());
  readonly onDidChangeTreeData = this.changed.event;
  private items = new Map<string, ChainItem>();
  private readonly model: ChainModel;
  private readonly expansion: Expansion;
  /** Resolves when the workspace was looked at for the first time. */
  private readonly firstScan: () => Promise<void>;

  constructor(model: ChainModel, expansion: Expansion, firstScan: () => Promise<void>) {
    this.model = model;
    this.expansion = expansion;
    this.firstScan = firstScan;
    this.disposables.add(model.onDidChange((change) => this.follow(change)));
  }

  async getChildren(item?: ChainItem): Promise<ChainItem[]> {
    if (item === undefined) {
      await this.firstScan();
      return this.itemsOf(this.model.forest.roots);
    }
    return this.itemsOf(item.node.children);
  }

  getParent(item: ChainItem): ChainItem | undefined {
    return item.parent;
  }

  getTreeItem(item: ChainItem): vscode.TreeItem {
    const { node } = item;
    const row = rowOf(node);
    const drawn = new vscode.TreeItem(row.label, collapsibleState(item));
    drawn.id = item.id;
    drawn.description = row.description;
    drawn.contextValue = row.context;
    drawn.iconPath = new vscode.ThemeIcon(row.icon.id, row.icon.color === null ? undefined : new vscode.ThemeColor(row.icon.color));
    drawn.accessibilityInformation = { label: `${row.label}, ${row.description}`, role: 'treeitem' };
    const file = imageIn(node);
    if (file !== null) {
      // Marks the row when a check found something, as the explorer marks the file.
      drawn.resourceUri = vscode.Uri.file(file);
    }
    const command = commandOf(item);
    if (command !== null) {
      drawn.command = command;
    }
    return drawn;
  }

  /** Hovers are made when somebody hovers. */
  resolveTreeItem(drawn: vscode.TreeItem, item: ChainItem): vscode.TreeItem {
    const tooltip = new vscode.MarkdownString(rowOf(item.node).tooltip, false);
    tooltip.isTrusted = false;
    tooltip.supportHtml = false;
    drawn.tooltip = tooltip;
    return drawn;
  }

  /** The row of an image: its own chain's where it is the active layer, else one in whose chain it stands. */
  find(file: string): ChainItem | undefined {
    const [id] = nodesOfImage(this.model.forest, file);
    return id === undefined ? undefined : this.items.get(id);
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private newItem(node: ForestNode, parent: ChainItem | undefined, few: boolean): ChainItem {
    return new ChainItem(node, parent, this.expansion.of(node.id) ?? (few && parent === undefined));
  }

  private itemsOf(nodes: readonly ForestNode[]): ChainItem[] {
    return nodes.flatMap((node) => this.items.get(node.id) ?? []);
  }

  private follow({ roots, nodes }: ForestChange): void {
    const before = this.items;
    const few = this.model.forest.roots.length <= MAX_EXPANDED;
    const after = new Map<string, ChainItem>();
    const keep = (node: ForestNode, parent: ChainItem | undefined): void => {
      const known = before.get(node.id);
      const item = known !== undefined && known.parent === parent ? known : this.newItem(node, parent, few);
      item.node = node;
      after.set(node.id, item);
      for (const child of node.children) {
        keep(child, item);
      }
    };
    for (const root of this.model.forest.roots) {
      keep(root, undefined);
    }
    this.items = after;
    this.changed.fire(roots ? undefined : nodes.flatMap((id) => after.get(id) ?? []));
  }
}

function collapsibleState({ node, expanded }: ChainItem): vscode.TreeItemCollapsibleState {
  if (node.children.length === 0) {
    return vscode.TreeItemCollapsibleState.None;
  }
  return expanded ? vscode.TreeItemCollapsibleState.Expanded : vscode.TreeItemCollapsibleState.Collapsed;
}

/** The image that a row stands for, when there is one to open. */
function imageIn(node: ForestNode): string | null {
  return node.kind === 'failed' || (node.kind === 'image' && node.link.state.kind === 'open') ? node.path : null;
}

/** What a click (or Enter) on a row does. */
function commandOf(item: ChainItem): vscode.Command | null {
  switch (item.node.kind) {
    case 'image':
      return item.node.link.state.kind === 'open' ? open(item) : null;
    case 'failed':
    case 'snapshot':
    case 'bitmap':
      return open(item);
    case 'overlay':
      return { command: 'chainscope.revealInChains', title: 'Select in Chains', arguments: [item] };
    case 'snapshots':
    case 'bitmaps':
    case 'overlays':
      return null;
  }
}

function open(item: ChainItem): vscode.Command {
  return { command: 'chainscope.openImage', title: 'Open Image', arguments: [item] };
}
