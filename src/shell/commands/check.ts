import * as path from 'node:path';
import * as vscode from 'vscode';

import type { CheckReport } from '../../protocol/check';
import type { Progress } from '../../protocol/engine';
import { formatByName } from '../chains/imageNames';
import type { ImageEditors } from '../editor/imageEditors';
import type { EngineClient } from '../../worker/client';
import type { ImageSession } from '../../worker/client/imageSession';
import { isCancelled, messageOf } from '../errors';
import { summaryOf } from '../problems/findingProblems';
import type { Problems } from '../problems/problems';
import { maxFindings } from '../settings';
import { plainText } from '../text/plain';
import { SlowProgress } from './slowProgress';
import { tellError, tellInformation, tellWarning } from '../messages';

interface CheckParts {
  readonly engine: EngineClient;
  readonly editors: ImageEditors;
  readonly problems: Problems;
  readonly log: vscode.LogOutputChannel;
}

/** Checks images and shows what is found: in the Problems panel, in open editors, in a message. */
export class Checks {
  private readonly parts: CheckParts;
  private readonly running = new Map<string, AbortController>();

  constructor(parts: CheckParts) {
    this.parts = parts;
  }

  /** Resolves to the report, or to null when the check was cancelled or failed, which the person has then been told. */
  async run(file: string, deep: boolean): Promise<CheckReport | null> {
    const name = plainText(path.basename(file));
    if (this.running.has(file)) {
      void tellInformation(`${name} is being checked already.`);
      return null;
    }
    const cancellation = new AbortController();
    this.running.set(file, cancellation);
    const progress = new SlowProgress();
    try {
      const checking = this.check(file, deep, cancellation.signal, progress);
      await progress.showWhenSlow(checking, deep ? `Checking ${name} (deep)` : `Checking ${name}`, () => cancellation.abort());
      const report = await checking;
      this.parts.editors.showReport(file, report);
      this.show(file, report);
      return report;
    } catch (error) {
      this.tellEnd(file, name, error);
      return null;
    } finally {
      this.running.delete(file);
    }
  }

  /** Gives up the check of an image that is under way, if one is. */
  cancel(file: string): void {
    this.running.get(file)?.abort();
  }

  /** Shows a report outside the editor. */
  show(file: string, report: CheckReport): void {
    this.parts.problems.show(file, report);
    const summary = summaryOf(report);
    this.parts.log.info(`Checked '${file}': ${summary}`);
    void this.announce(file, `${plainText(path.basename(file))}: ${summary}`, report);
  }

  private async check(file: string, deep: boolean, signal: AbortSignal, progress: SlowProgress): Promise<CheckReport> {
    const { session, close } = await this.sessionOf(file, signal);
    progress.onDidAdvance((fraction) => this.parts.editors.showCheckProgress(file, fraction, null));
    this.parts.editors.showCheckProgress(file, 0, null);
    try {
      const onProgress = ({ done, total }: Progress): void => progress.advance(total > 0 ? Math.min(done / total, 1) : 0);
      return await session.call('check', { deep, maxFindings: maxFindings() }, { signal, onProgress });
    } finally {
      close();
    }
  }

  /** The session of the image's editor where there is one, else one for the occasion. */
  private async sessionOf(file: string, signal: AbortSignal): Promise<{ session: ImageSession; close: () => void }> {
    const { engine, editors } = this.parts;
    const document = editors.documentOf(file);
    if (document !== undefined) {
      const { session } = await document.opened();
      return { session, close: () => undefined };
    }
    const [format] = await engine.probeFiles([file], { signal });
    const session = await engine.openSession({ path: file, format: format ?? formatByName(file) }, signal);
    return { session, close: () => session.close() };
  }

  private tellEnd(file: string, name: string, error: unknown): void {
    if (isCancelled(error)) {
      this.parts.editors.showCheckProgress(file, null, 'The check was cancelled.');
      return;
    }
    const message = `${name} could not be checked: ${messageOf(error)}`;
    this.parts.log.error(message);
    this.parts.editors.showCheckProgress(file, null, message);
    void tellError(message);
  }

  private async announce(file: string, message: string, report: CheckReport): Promise<void> {
    const findings = 'Show Findings';
    const problems = 'Show Problems';
    const answer = await tell(gravityOf(report), message, ...(report.kinds.length === 0 ? [] : [findings, problems]));
    if (answer === findings) {
      await this.parts.editors.open(file, { tab: 'check', place: null });
      this.parts.editors.showReport(file, report);
    } else if (answer === problems) {
      await vscode.commands.executeCommand('workbench.actions.view.problems');
    }
  }
}

type Gravity = 'none' | 'warning' | 'error';

function gravityOf({ kinds, counts, failure }: CheckReport): Gravity {
  if (counts.corruptions > 0 || counts.checkErrors > 0 || failure !== null) {
    return 'error';
  }
  return kinds.length > 0 ? 'warning' : 'none';
}

function tell(gravity: Gravity, message: string, ...actions: readonly string[]): Thenable<string | undefined> {
  switch (gravity) {
    case 'error':
      return tellError(message, ...actions);
    case 'warning':
      return tellWarning(message, ...actions);
    case 'none':
      return tellInformation(message, ...actions);
  }
}
