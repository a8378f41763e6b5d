import assert from 'node:assert/strict';
import * as vscode from 'vscode';

import { inTime, until } from './waiting';

type Answer =
  | { readonly kind: 'pick'; readonly label: RegExp; readonly title?: RegExp }
  | { readonly kind: 'type'; readonly text: string | null }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'agree'; readonly action: string; readonly question?: RegExp; readonly onlyIfAsked?: boolean }
  | { readonly kind: 'error'; readonly message: RegExp };

type Windows = typeof vscode.window;
type Replaced =
  | 'showQuickPick'
  | 'createQuickPick'
  | 'createInputBox'
  | 'showSaveDialog'
  | 'showOpenDialog'
  | 'showWarningMessage'
  | 'showInformationMessage'
  | 'showErrorMessage'
  | 'withProgress';

/**
 * Somebody at the window: answers the questions of a command in the order in which they are expected, and hears what is told. Dialogs of
 * the system cannot be worked from a test, so VS Code's functions that ask are taken over; what they are given is looked at.
 */
export class Person {
  /** What was told, the newest last: notifications of all kinds. */
  readonly told: string[] = [];
  /** What was asked in dialogs, with its detail. */
  readonly asked: string[] = [];
  /** What stood as an error under fields from the start. */
  readonly warned: string[] = [];
  /** What the long ones showed. */
  readonly progress: string[] = [];
  /** Gives up the next thing that takes long, once what it shows has this. */
  cancelsAt: RegExp | null = null;
  private readonly answers: Answer[];
  private readonly before = new Map<Replaced, unknown>();
  private readonly wasTold = new vscode.EventEmitter<void>();
  private readonly errors: string[] = [];
  /** What was asked that no answer fits. */
  private fault: Error | null = null;

  private constructor(answers: readonly Answer[]) {
    this.answers = [...answers];
  }

  /** Runs a command with somebody who answers so; every answer has to be asked for, and no error may be told but those that are expected. */
  static async runs(command: string, argument: unknown, ...answers: readonly Answer[]): Promise<Person> {
    return Person.watches(answers, async () => {
      await vscode.commands.executeCommand(`chainscope.${command}`, argument);
    });
  }

  static async watches(answers: readonly Answer[], work: (person: Person) => Promise<void>): Promise<Person> {
    const person = new Person(answers);
    person.arrive();
    try {
      await inTime(work(person), () => `The command has not ended; asked: ${person.asked.join(' | ')}; told: ${person.told.join(' | ')}`);
      person.isContent();
    } finally {
      person.leave();
    }
    return person;
  }

  /** Waits until something of this kind was told. */
  async hears(what: RegExp): Promise<string> {
    return until(
      () => this.told.find((text) => what.test(text)),
      this.wasTold.event,
      () => `Not told: ${String(what)}; only: ${this.told.join(' | ')}`,
    );
  }

  /** @throws when something else was asked or went wrong than the test expects */
  private isContent(): void {
    if (this.fault) {
      throw this.fault;
    }
    const failures = this.answers.flatMap((answer) => (answer.kind === 'error' ? [answer.message] : []));
    assert.deepEqual(
      this.errors.filter((message) => !failures.some((expected) => expected.test(message))),
      [],
      'No other error is told',
    );
    const left = this.answers.filter((answer) => answer.kind !== 'error' && !(answer.kind === 'agree' && answer.onlyIfAsked === true));
    assert.deepEqual(left, [], `Not asked for; told: ${this.told.join(' | ')}`);
    const unmet = failures.filter((expected) => !this.errors.some((message) => expected.test(message)));
    assert.deepEqual(unmet, [], `Not told, only: ${this.told.join(' | ')}`);
  }

  private arrive(): void {
    const tell = (message: string): Promise<undefined> => {
      this.told.push(message);
      this.wasTold.fire();
      return Promise.resolve(undefined);
    };
    this.replace('showInformationMessage', tell);
    this.replace('showErrorMessage', (message: string) => {
      this.errors.push(message);
      return tell(message);
    });
    this.replace('showWarningMessage', (message: string, options: vscode.MessageOptions, ...actions: readonly string[]) => {
      if (typeof options !== 'object' || options.modal !== true) {
        return tell(message);
      }
      this.asked.push(`${message}\n${options.detail ?? ''}`);
      return this.answering('agree', message, ({ action, question = /./ }) => {
        assert.match(message, question);
        assert.ok(actions.includes(action), `${action} is offered, not only ${actions.join(', ')}`);
        return Promise.resolve(action);
      });
    });
    const file = (question: string) => this.answering('file', question, ({ path }) => vscode.Uri.file(path));
    this.replace('showSaveDialog', () => Promise.resolve(file('a file to save')));
    this.replace('showOpenDialog', () => Promise.resolve([file('a file to open')]));
    this.replace('showQuickPick', (items: readonly vscode.QuickPickItem[], options: vscode.QuickPickOptions = {}) =>
      this.picked(items, options.title ?? options.placeHolder ?? ''),
    );
    this.replace('createQuickPick', () => this.quickPick());
    this.replace('createInputBox', () => this.inputBox());
    this.replace('withProgress', this.withProgress.bind(this));
  }

  private leave(): void {
    const windows = vscode.window as unknown as Record<Replaced, unknown>;
    for (const [name, original] of this.before) {
      windows[name] = original;
    }
  }

  private replace(name: Replaced, by: (...args: never[]) => unknown): void {
    const windows = vscode.window as unknown as Record<Replaced, unknown>;
    this.before.set(name, windows[name]);
    windows[name] = by;
  }

  /** Takes the next answer to a question; what does not fit makes the test fail, however the command takes it. */
  private answering<K extends Answer['kind'], T>(kind: K, question: string, answer: (given: Extract<Answer, { kind: K }>) => T): T {
    try {
      const index = this.answers.findIndex((answer) => answer.kind !== 'error');
      const [given] = index < 0 ? [] : this.answers.splice(index, 1);
      assert.ok(given?.kind === kind, `Asked: ${question}; the answer would be ${JSON.stringify(given)}`);
      return answer(given as Extract<Answer, { kind: K }>);
    } catch (error) {
      this.fault ??= error as Error;
      throw error;
    }
  }

  private quickPick(): Partial<vscode.QuickPick<vscode.QuickPickItem>> {
    return this.quickInput({ items: [] as vscode.QuickPickItem[], activeItems: [], selectedItems: [] as vscode.QuickPickItem[] }, (box) => {
      box.selectedItems = [this.picked(box.items, box.title ?? '')];
    });
  }

  private picked<T extends vscode.QuickPickItem>(items: readonly T[], title: string): T {
    return this.answering('pick', title, (answer) => {
      assert.match(title, answer.title ?? /./);
      const found = items.find((candidate) => answer.label.test(candidate.label));
      assert.ok(found, `${String(answer.label)} is none of: ${items.map((candidate) => candidate.label).join(', ')}`);
      return found;
    });
  }

  private inputBox(): Partial<vscode.InputBox> {
    return this.quickInput({ value: '', validationMessage: undefined as vscode.InputBox['validationMessage'] }, (box) => {
      const text = this.answering('type', box.title ?? '', (answer) => answer.text);
      if (typeof box.validationMessage === 'string') {
        this.warned.push(box.validationMessage);
      }
      if (text === null) {
        box.hide?.();
      } else {
        box.value = text;
      }
    });
  }

  private quickInput<T extends object>(
    fields: T,
    answer: (box: T & { title?: string; hide?: () => void }) => void,
  ): T & Partial<vscode.QuickInput> {
    const accepted = new vscode.EventEmitter<void>();
    const hidden = new vscode.EventEmitter<void>();
    const pressed = new vscode.EventEmitter<vscode.QuickInputButton>();
    const typed = new vscode.EventEmitter<string>();
    const box = {
      ...fields,
      title: '',
      buttons: [],
      onDidAccept: accepted.event,
      onDidHide: hidden.event,
      onDidTriggerButton: pressed.event,
      onDidChangeValue: typed.event,
      show: () => {
        // As with the real one, the answer comes after the question.
        setImmediate(() => {
          try {
            answer(box);
            accepted.fire();
          } catch {
            // It is known as the fault; a person who has no answer goes away.
            hidden.fire();
          }
        });
      },
      hide: () => hidden.fire(),
      dispose: () => undefined,
    };
    return box;
  }

  private withProgress<T>(
    options: vscode.ProgressOptions,
    task: (progress: vscode.Progress<{ message?: string }>, token: vscode.CancellationToken) => Thenable<T>,
  ): Thenable<T> {
    if (options.location !== vscode.ProgressLocation.Notification) {
      const original = this.before.get('withProgress') as Windows['withProgress'];
      return original(options, task);
    }
    assert.equal(options.cancellable, true);
    const cancellation = new vscode.CancellationTokenSource();
    const report = ({ message }: { message?: string }): void => {
      this.progress.push(`${options.title ?? ''}: ${message ?? ''}`);
      if (this.cancelsAt?.test(message ?? '')) {
        this.cancelsAt = null;
        cancellation.cancel();
      }
    };
    return task({ report }, cancellation.token);
  }
}

export function picks(label: RegExp, title?: RegExp): Answer {
  return title === undefined ? { kind: 'pick', label } : { kind: 'pick', label, title };
}

export function types(text: string): Answer {
  return { kind: 'type', text };
}

/** Closes a field without an answer. */
export function leaves(): Answer {
  return { kind: 'type', text: null };
}

export function choosesFile(path: string): Answer {
  return { kind: 'file', path };
}

export function agrees(action: string, question?: RegExp): Answer {
  return question === undefined ? { kind: 'agree', action } : { kind: 'agree', action, question };
}

/** Agrees to something that is asked in some cases only: to end an export whose last client has just gone, perhaps unnoticed. */
export function wouldAgree(action: string): Answer {
  return { kind: 'agree', action, onlyIfAsked: true };
}

/** Is told this error; where no test says so, none is told. */
export function failsWith(message: RegExp): Answer {
  return { kind: 'error', message };
}
