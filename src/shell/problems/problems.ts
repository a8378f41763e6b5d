import * as path from 'node:path';
import * as vscode from 'vscode';

import type { CheckReport } from '../../protocol/check';
import { DisposableStore, type Disposable } from '../lifecycle';
import { literalGlob } from '../text/globs';
import { plainText } from '../text/plain';
import { problemsOf, type FindingProblem } from './findingProblems';

/** An image has no lines; everything stands at its beginning and the message names the offset. */
const START = new vscode.Range(0, 0, 0, 0);

const SEVERITIES: Readonly<Record<FindingProblem['severity'], vscode.DiagnosticSeverity>> = {
  error: vscode.DiagnosticSeverity.Error,
  warning: vscode.DiagnosticSeverity.Warning,
  information: vscode.DiagnosticSeverity.Information,
};

/** What checks found, in the Problems panel, until the image is checked again or gone. */
export class Problems implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly diagnostics = this.disposables.add(vscode.languages.createDiagnosticCollection('chainscope'));
  private readonly watchers = new Map<string, vscode.FileSystemWatcher>();

  show(file: string, report: CheckReport): void {
    const diagnostics = problemsOf(report).map(({ severity, message, code }) => {
      const diagnostic = new vscode.Diagnostic(START, plainText(message, 2_000), SEVERITIES[severity]);
      diagnostic.source = 'Chainscope';
      diagnostic.code = code;
      return diagnostic;
    });
    this.diagnostics.set(vscode.Uri.file(file), diagnostics);
    this.watch(file);
  }

  clear(file: string): void {
    this.diagnostics.delete(vscode.Uri.file(file));
    this.watchers.get(file)?.dispose();
    this.watchers.delete(file);
  }

  dispose(): void {
    for (const watcher of this.watchers.values()) {
      watcher.dispose();
    }
    this.disposables.dispose();
  }

  private watch(file: string): void {
    if (!this.watchers.has(file)) {
      const pattern = new vscode.RelativePattern(vscode.Uri.file(path.dirname(file)), literalGlob(path.basename(file)));
      const watcher = vscode.workspace.createFileSystemWatcher(pattern, true, true, false);
      watcher.onDidDelete(() => this.clear(file));
      this.watchers.set(file, watcher);
    }
  }
}
