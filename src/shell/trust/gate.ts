import * as vscode from 'vscode';

import type { GateAnswer, GateQuestion } from '../../protocol/engine';
import { DisposableStore, type Disposable } from '../lifecycle';
import type { Decision, DecisionStore } from './decisionStore';
import { decide } from './policy';
import { realPathOf } from './realPath';
import type { WorkspaceFolders } from './workspaceFolders';

/** Questions remembered for *Allow Access…*; the oldest are forgotten. */
const MAX_REFUSALS = 10_000;

/** Answers the worker's questions whether a file may be opened because an image names it. */
export class Gate implements Disposable {
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<void>());
  /** The person decided something. */
  readonly onDidChange = this.changed.event;
  private readonly folders: WorkspaceFolders;
  private readonly decisions: DecisionStore;
  private readonly refusals = new Map<string, GateQuestion>();

  constructor(folders: WorkspaceFolders, decisions: DecisionStore) {
    this.folders = folders;
    this.decisions = decisions;
  }

  async answer(asked: GateQuestion): Promise<GateAnswer> {
    // Decisions are remembered by the one name that an image has, however the chain that led to it spells it.
    const question = { ...asked, image: await realPathOf(asked.image) };
    const surroundings = { trusted: vscode.workspace.isTrusted, folders: await this.folders.real() };
    const answer = decide(question, surroundings, this.decisions);
    if (!answer.allowed) {
      this.remember(question);
    }
    return answer;
  }

  /** The question that was refused for a name in an image: exactly this is what *Allow Access…* is about. */
  refusal(image: string, recordedName: string): GateQuestion | undefined {
    return this.refusals.get(keyOf(image, recordedName));
  }

  get all(): readonly Decision[] {
    return this.decisions.all;
  }

  async add(decision: Decision): Promise<void> {
    await this.decisions.add(decision);
    this.changed.fire();
  }

  async remove(decisions: readonly Decision[]): Promise<void> {
    await this.decisions.remove(decisions);
    this.changed.fire();
  }

  dispose(): void {
    this.disposables.dispose();
  }

  private remember(question: GateQuestion): void {
    const key = keyOf(question.image, question.recordedName);
    this.refusals.delete(key);
    this.refusals.set(key, question);
    const [oldest] = this.refusals.keys();
    if (this.refusals.size > MAX_REFUSALS && oldest !== undefined) {
      this.refusals.delete(oldest);
    }
  }
}

function keyOf(image: string, recordedName: string): string {
  return `${image}\n${recordedName}`;
}
