import type * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import type { ChainItem } from '../../src/shell/chains/chainTree';
import { until } from './waiting';

export interface ShownRow {
  readonly item: ChainItem;
  readonly label: string;
  readonly description: string;
  readonly context: string;
  readonly icon: string;
  readonly children: readonly ShownRow[];
}

/** What the view *Chains* shows, as VS Code asks its provider for it. */
export class ShownTree {
  readonly provider: vscode.TreeDataProvider<ChainItem>;

  constructor({ chains }: ChainscopeApi) {
    this.provider = chains.provider;
  }

  async rows(parent?: ChainItem): Promise<ShownRow[]> {
    const items = (await this.provider.getChildren(parent)) ?? [];
    return Promise.all(items.map((item) => this.row(item)));
  }

  /** The root with this label; an error when it is not shown. */
  async root(label: string): Promise<ShownRow> {
    const rows = await this.rows();
    const found = rows.find((row) => row.label === label);
    if (found === undefined) {
      throw new Error(`There is no root ${label}, only: ${rows.map((row) => row.label).join(', ')}`);
    }
    return found;
  }

  /** Waits until what is shown is as expected, looking again whenever the view is told to. */
  async until(expected: (rows: readonly ShownRow[]) => boolean, what: string): Promise<readonly ShownRow[]> {
    let rows: readonly ShownRow[] = [];
    const look = async (): Promise<readonly ShownRow[] | undefined> => {
      rows = await this.rows();
      return expected(rows) ? rows : undefined;
    };
    const shown = (): string => rows.map((row) => `${row.label} ${row.description}`).join('\n');
    return until(look, this.changed, () => `Not seen: ${what}. Shown is:\n${shown()}`);
  }

  /** The changes that the view is told of, from now on: the IDs of rows, or all. */
  changes(): { readonly seen: (readonly string[] | 'all')[]; dispose(): void } {
    const seen: (readonly string[] | 'all')[] = [];
    const listener = this.changed((items) => {
      seen.push(Array.isArray(items) ? items.map(({ id }) => id) : 'all');
    });
    return { seen, dispose: () => void listener.dispose() };
  }

  private get changed(): NonNullable<vscode.TreeDataProvider<ChainItem>['onDidChangeTreeData']> {
    const { onDidChangeTreeData } = this.provider;
    if (onDidChangeTreeData === undefined) {
      throw new Error('The view tells of no changes.');
    }
    return onDidChangeTreeData;
  }

  private async row(item: ChainItem): Promise<ShownRow> {
    const drawn = await this.provider.getTreeItem(item);
    const { label = '', description = '', contextValue = '', iconPath } = drawn;
    return {
      item,
      label: typeof label === 'string' ? label : label.label,
      description: String(description),
      context: contextValue,
      icon: iconPath !== undefined && typeof iconPath === 'object' && 'id' in iconPath ? iconPath.id : '',
      children: await this.rows(item),
    };
  }
}
