import * as vscode from 'vscode';

import { DisposableStore, type Disposable } from '../lifecycle';
import { labelText } from '../text/plain';
import { actionsOf, hasEnded, type JobAction, type JobEntry } from './jobEntry';
import { fractionOf, jobRow, titleOf } from './jobRows';
import type { Jobs } from './jobs';

export const JOBS_VIEW = 'chainscope.jobs';

/** A row of the view; the object stays the same as long as the job is shown. */
export class JobItem {
  entry: JobEntry;

  constructor(entry: JobEntry) {
    this.entry = entry;
  }
}

/** The view *Jobs*, and what the status bar shows of it. */
export class JobsView implements vscode.TreeDataProvider<JobItem>, Disposable {
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<JobItem[] | undefined>());
  readonly onDidChangeTreeData = this.changed.event;
  private readonly jobs: Jobs;
  private readonly view: vscode.TreeView<JobItem>;
  private readonly status: vscode.StatusBarItem;
  private items = new Map<string, JobItem>();
  private offered = '';

  constructor(jobs: Jobs) {
    this.jobs = jobs;
    this.view = this.disposables.add(vscode.window.createTreeView(JOBS_VIEW, { treeDataProvider: this }));
    this.status = this.disposables.add(vscode.window.createStatusBarItem(JOBS_VIEW, vscode.StatusBarAlignment.Left));
    this.status.name = 'Chainscope Jobs';
    this.status.command = `${JOBS_VIEW}.focus`;
    this.disposables.add(jobs.onDidChange(() => this.show()));
    this.show();
  }

  get entries(): readonly JobEntry[] {
    return this.jobs.entries;
  }

  getChildren(item?: JobItem): JobItem[] {
    return item === undefined ? [...this.items.values()] : [];
  }

  getParent(): undefined {
    return undefined;
  }

  getTreeItem({ entry }: JobItem): vscode.TreeItem {
    const row = jobRow(entry);
    const drawn = new vscode.TreeItem(row.label);
    drawn.id = entry.key;
    drawn.description = row.description;
    drawn.contextValue = row.context;
    drawn.iconPath = new vscode.ThemeIcon(row.icon.id, row.icon.color === null ? undefined : new vscode.ThemeColor(row.icon.color));
    drawn.accessibilityInformation = { label: `${titleOf(entry.job.request)}, ${row.description}`, role: 'treeitem' };
    return drawn;
  }

  resolveTreeItem(drawn: vscode.TreeItem, { entry }: JobItem): vscode.TreeItem {
    const tooltip = new vscode.MarkdownString(jobRow(entry).tooltip, false);
    tooltip.isTrusted = false;
    tooltip.supportHtml = false;
    drawn.tooltip = tooltip;
    return drawn;
  }

  /** Lets a job be seen, where the view is not closed. */
  async reveal(key: string): Promise<void> {
    const item = this.items.get(key);
    if (item !== undefined) {
      await this.view.reveal(item, { select: false, focus: false });
    }
  }

  /** The job that a command is about: its row's, the only one that it can be done to, or the one that the person chooses. */
  async choose(argument: unknown, action: JobAction): Promise<JobEntry | null> {
    if (argument instanceof JobItem) {
      return argument.entry;
    }
    const able = this.entries.filter((entry) => actionsOf(entry).includes(action));
    if (able.length <= 1) {
      return able[0] ?? null;
    }
    const chosen = await vscode.window.showQuickPick(
      able.map((entry) => ({ label: labelText(jobRow(entry).label), description: jobRow(entry).description, entry })),
      { placeHolder: 'Choose a job' },
    );
    return chosen?.entry ?? null;
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private show(): void {
    const before = this.items;
    const updated: JobItem[] = [];
    this.items = new Map(
      this.entries.map((entry) => {
        const item = before.get(entry.key) ?? new JobItem(entry);
        if (item.entry !== entry) {
          item.entry = entry;
          updated.push(item);
        }
        return [entry.key, item];
      }),
    );
    const sameRows = before.size === this.items.size && [...this.items.keys()].every((key) => before.has(key));
    if (!sameRows || updated.length > 0) {
      this.changed.fire(sameRows ? updated : undefined);
    }
    this.offerActions();
    this.showStatus();
  }

  /** The palette offers what can be done to one of the jobs, and nothing else. */
  private offerActions(): void {
    const offered = ` ${[...new Set(this.entries.flatMap(actionsOf))].toSorted().join(' ')} `;
    if (offered !== this.offered) {
      this.offered = offered;
      void vscode.commands.executeCommand('setContext', 'chainscope.jobActions', offered);
    }
  }

  private showStatus(): void {
    const active = this.entries.filter((entry) => !hasEnded(entry));
    const [first] = active;
    if (first === undefined) {
      this.status.hide();
      return;
    }
    const done = active.reduce((sum, { job }) => sum + fractionOf(job), 0) / active.length;
    const moving = active.some(({ job }) => job.status === 'running' && job.hold !== 'idle' && job.hold !== 'system');
    const what = active.length === 1 ? titleOf(first.job.request) : `${active.length} jobs`;
    this.status.text = `$(${moving ? 'sync~spin' : 'watch'}) ${labelText(what)} ${Math.floor(done * 100)} %`;
    this.status.tooltip = active.map((entry) => `${jobRow(entry).label}: ${jobRow(entry).description}`).join('\n');
    this.status.show();
  }
}
