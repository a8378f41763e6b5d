import type * as vscode from 'vscode';

import type { ChainscopeApi } from '../../src/extension';
import type { ChainItem } from '../../src/shell/chains/chainTree';

/** How long the file system's watcher may take to tell, in milliseconds. */
const PATIENCE = 20_000;

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
    const changes = this.changes();
    const deadline = AbortSignal.timeout(PATIENCE);
    try {
      for (;;) {
        const rows = await this.rows();
        if (expected(rows)) {
          return rows;
        }
        if (!(await changes.next(deadline))) {
          throw new Error(
            `Not seen in ${PATIENCE} ms: ${what}. Shown is:\n${rows.map((row) => `${row.label} ${row.description}`).join('\n')}`,
          );
        }
      }
    } finally {
      changes.dispose();
    }
  }

  /** The changes that the view is told of, from now on. */
  changes(): { next(deadline: AbortSignal): Promise<boolean>; readonly seen: (readonly string[] | 'all')[]; dispose(): void } {
    const seen: (readonly string[] | 'all')[] = [];
    let unread = 0;
    let wake = (): void => undefined;
    const listener = this.provider.onDidChangeTreeData?.((items) => {
      seen.push(Array.isArray(items) ? items.map(({ id }) => id) : 'all');
      unread += 1;
      wake();
    });
    return {
      seen,
      next: async (deadline) => {
        if (unread === 0 && !deadline.aborted) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            deadline.addEventListener('abort', () => resolve(), { once: true });
          });
        }
        const told = unread > 0;
        unread = 0;
        return told;
      },
      dispose: () => void listener?.dispose(),
    };
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
