import * as vscode from 'vscode';

import { plainText } from '../../text/plain';

/** Longer titles wrap, and push what is asked down. */
const MAX_TITLE = 60;

/** The person went to the page before, or away altogether. */
class LeftPage extends Error {
  override readonly name = 'LeftPage';
  readonly to: 'back' | 'away';

  constructor(to: 'back' | 'away') {
    super(`The page was left (${to}).`);
    this.to = to;
  }
}

/** What stands under a field while somebody types into it. */
export interface FieldRemark {
  readonly message: string;
  /** An error keeps the page from being accepted. */
  readonly isError: boolean;
}

export interface TextField {
  readonly prompt: string;
  readonly placeholder?: string;
  readonly value?: string;
  /** The part of `value` that typing replaces: character offsets. All of it when left out. */
  readonly selection?: readonly [number, number];
  /** Null: nothing to say. */
  readonly check: (value: string) => FieldRemark | null | Promise<FieldRemark | null>;
}

export interface Choice<T> {
  readonly label: string;
  readonly description?: string;
  readonly detail?: string;
  readonly value: T;
  /** Begins a group of this name. */
  readonly group?: string;
}

export interface ChoiceField<T> {
  readonly placeholder: string;
  readonly choices: readonly Choice<T>[];
  /** The choice to start on. */
  readonly current?: T;
  /** The page stays when it loses the focus: it has something to be read. */
  readonly sticky?: boolean;
}

interface PagePosition {
  readonly title: string;
  readonly step: number | undefined;
  readonly totalSteps: number | undefined;
  readonly canGoBack: boolean;
}

/** One page of a wizard: a quick input that knows its place. Its questions reject when the page is left; the wizard knows what to do then. */
export class Page {
  private readonly position: PagePosition;

  constructor(position: PagePosition) {
    this.position = position;
  }

  /** A page of its own below this one, from which Back leads here. Null when the person came back without an answer. */
  async below<T>(title: string, ask: (page: Page) => Promise<T>): Promise<T | null> {
    try {
      return await ask(new Page({ title: `${this.position.title}: ${title}`, step: undefined, totalSteps: undefined, canGoBack: true }));
    } catch (error) {
      if (error instanceof LeftPage && error.to === 'back') {
        return null;
      }
      throw error;
    }
  }

  /** Resolves to a text about which `check` has no error. */
  text({ prompt, placeholder, value = '', selection, check }: TextField): Promise<string> {
    const box = vscode.window.createInputBox();
    box.prompt = prompt;
    box.placeholder = placeholder;
    box.value = value;
    box.valueSelection = selection === undefined ? [0, value.length] : [...selection];
    box.ignoreFocusOut = true;
    let asked = 0;
    const validate = async (): Promise<boolean> => {
      asked += 1;
      const question = asked;
      const remark = await check(box.value);
      if (question !== asked) {
        // Something else was typed meanwhile; that has its own answer.
        return false;
      }
      box.validationMessage = remark === null ? undefined : { message: remark.message, severity: severityOf(remark) };
      return remark?.isError !== true;
    };
    return this.show(box, (accept, fail) => {
      box.onDidChangeValue(() => void validate().catch(fail));
      box.onDidAccept(() => {
        void validate().then((good) => {
          if (good) {
            accept(box.value);
          }
        }, fail);
      });
      if (value !== '') {
        void validate().catch(fail);
      }
    });
  }

  pick<T>({ placeholder, choices, current, sticky = true }: ChoiceField<T>): Promise<T> {
    interface Item extends vscode.QuickPickItem {
      readonly choice: Choice<T> | null;
    }
    const items: Item[] = [];
    for (const choice of choices) {
      if (choice.group !== undefined) {
        items.push({ label: choice.group, kind: vscode.QuickPickItemKind.Separator, choice: null });
      }
      const { label, description, detail } = choice;
      items.push({ label, choice, ...(description === undefined ? {} : { description }), ...(detail === undefined ? {} : { detail }) });
    }
    const box = vscode.window.createQuickPick<Item>();
    box.placeholder = placeholder;
    box.items = items;
    box.matchOnDescription = true;
    box.ignoreFocusOut = sticky;
    const active = items.find(({ choice }) => choice !== null && current !== undefined && choice.value === current);
    if (active !== undefined) {
      box.activeItems = [active];
    }
    return this.show(box, (accept) => {
      box.onDidAccept(() => {
        const [chosen] = box.selectedItems;
        if (chosen !== undefined && chosen.choice !== null) {
          accept(chosen.choice.value);
        }
      });
    });
  }

  /** Asks where a new file goes; leaving the dialog leads back, or away from the first page. */
  async saveFile(options: vscode.SaveDialogOptions): Promise<string> {
    const chosen = await vscode.window.showSaveDialog({ title: this.position.title, ...options });
    return this.pathOf(chosen);
  }

  async openFile(options: vscode.OpenDialogOptions): Promise<string> {
    const [chosen] = (await vscode.window.showOpenDialog({ title: this.position.title, ...options })) ?? [];
    return this.pathOf(chosen);
  }

  private pathOf(chosen: vscode.Uri | undefined): string {
    if (chosen?.scheme !== 'file') {
      throw new LeftPage(this.position.canGoBack ? 'back' : 'away');
    }
    return chosen.fsPath;
  }

  private async show<T>(
    box: vscode.QuickInput & {
      buttons: readonly vscode.QuickInputButton[];
      readonly onDidTriggerButton: vscode.Event<vscode.QuickInputButton>;
    },
    listen: (accept: (answer: T) => void, fail: (error: unknown) => void) => void,
  ): Promise<T> {
    const { title, step, totalSteps, canGoBack } = this.position;
    box.title = title;
    box.step = step;
    box.totalSteps = totalSteps;
    box.buttons = canGoBack ? [vscode.QuickInputButtons.Back] : [];
    try {
      return await new Promise<T>((resolve, reject) => {
        box.onDidTriggerButton((button) => {
          if (button === vscode.QuickInputButtons.Back) {
            reject(new LeftPage('back'));
          }
        });
        box.onDidHide(() => reject(new LeftPage('away')));
        listen(resolve, reject);
        box.show();
      });
    } finally {
      box.dispose();
    }
  }
}

/** One question of a wizard. `when` tells whether it is asked at all, given the answers so far. */
export interface Step<S> {
  readonly when?: (answers: S) => boolean;
  readonly ask: (page: Page, answers: S) => Promise<S>;
}

/** Asks one question after the other, and again where the person goes back. Null when it was given up. */
export async function runWizard<S>(title: string, initial: S, steps: readonly Step<S>[]): Promise<S | null> {
  let answers = initial;
  const visited: number[] = [];
  for (let index = 0; index < steps.length;) {
    const step = steps[index]!;
    const asked = steps.filter(({ when }) => when?.(answers) ?? true);
    if (!asked.includes(step)) {
      index += 1;
      continue;
    }
    const many = asked.length > 1;
    const page = new Page({
      title: plainText(title, MAX_TITLE),
      step: many ? asked.indexOf(step) + 1 : undefined,
      totalSteps: many ? asked.length : undefined,
      canGoBack: visited.length > 0,
    });
    try {
      answers = await step.ask(page, answers);
      visited.push(index);
      index += 1;
    } catch (error) {
      if (!(error instanceof LeftPage)) {
        throw error;
      }
      const before = error.to === 'back' ? visited.pop() : undefined;
      if (before === undefined) {
        return null;
      }
      index = before;
    }
  }
  return answers;
}

function severityOf({ isError }: FieldRemark): vscode.InputBoxValidationSeverity {
  return isError ? vscode.InputBoxValidationSeverity.Error : vscode.InputBoxValidationSeverity.Info;
}
