import assert from 'node:assert/strict';
import * as vscode from 'vscode';

/** How long a question may take to be asked, in milliseconds. */
const PATIENCE = 20_000;

type Answer =
  | { readonly kind: 'pick'; readonly label: RegExp; readonly title?: RegExp }
  | { readonly kind: 'type'; readonly text: string | null }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'agree'; readonly action: string; readonly question?: RegExp };

type Windows = typeof vscode.window;
type Replaced =
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
  /** Gives up the next thing that takes long. */
  cancelsNext = false;
  private readonly answers: Answer[];
  private readonly before = new Map<Replaced, unknown>();
  private wake: () => void = () => undefined;

  private constructor(answers: readonly Answer[]) {
    this.answers = [...answers];
  }

  /** Runs a command with somebody who answers so; every answer has to be asked for. */
  static async runs(command: string, argument: unknown, ...answers: readonly Answer[]): Promise<Person> {
    return Person.watches(answers, async () => {
      await vscode.commands.executeCommand(`chainscope.${command}`, argument);
    });
  }

  static async watches(answers: readonly Answer[], work: (person: Person) => Promise<void>): Promise<Person> {
    const person = new Person(answers);
    person.arrive();
    try {
      await work(person);
      assert.deepEqual(person.answers, [], `Not asked for; told: ${person.told.join(' | ')}`);
    } finally {
      person.leave();
    }
    return person;
  }

  /** Waits until something of this kind was told. */
  async hears(what: RegExp): Promise<string> {
    const deadline = AbortSignal.timeout(PATIENCE);
    for (;;) {
      const heard = this.told.find((text) => what.test(text));
      if (heard !== undefined) {
        return heard;
      }
      if (deadline.aborted) {
        throw new Error(`Not told: ${String(what)}; only: ${this.told.join(' | ')}`);
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        deadline.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }

  private arrive(): void {
    const tell = (message: string): Promise<undefined> => {
      this.told.push(message);
      this.wake();
      return Promise.resolve(undefined);
    };
    this.replace('showInformationMessage', tell);
    this.replace('showErrorMessage', tell);
    this.replace('showWarningMessage', (message: string, options: vscode.MessageOptions, ...actions: readonly string[]) => {
      if (typeof options !== 'object' || options.modal !== true) {
        return tell(message);
      }
      this.asked.push(`${message}\n${options.detail ?? ''}`);
      const { action, question = /./ } = this.next('agree', message);
      assert.match(message, question);
      assert.ok(actions.includes(action), `${action} is offered, not only ${actions.join(', ')}`);
      return Promise.resolve(action);
    });
    this.replace('showSaveDialog', () => Promise.resolve(vscode.Uri.file(this.next('file', 'a file to save').path)));
    this.replace('showOpenDialog', () => Promise.resolve([vscode.Uri.file(this.next('file', 'a file to open').path)]));
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

  private next<K extends Answer['kind']>(kind: K, question: string): Extract<Answer, { kind: K }> {
    const answer = this.answers.shift();
    assert.ok(answer?.kind === kind, `Asked: ${question}; the answer would be ${JSON.stringify(answer)}`);
    return answer as Extract<Answer, { kind: K }>;
  }

  private quickPick(): Partial<vscode.QuickPick<vscode.QuickPickItem>> {
    return this.quickInput({ items: [] as vscode.QuickPickItem[], activeItems: [], selectedItems: [] as vscode.QuickPickItem[] }, (box) => {
      const { label, title = /./ } = this.next('pick', box.title ?? '');
      assert.match(box.title ?? '', title);
      const item = box.items.find((candidate) => label.test(candidate.label));
      assert.ok(item, `${String(label)} is none of: ${box.items.map((candidate) => candidate.label).join(', ')}`);
      box.selectedItems = [item];
    });
  }

  private inputBox(): Partial<vscode.InputBox> {
    return this.quickInput({ value: '', validationMessage: undefined as vscode.InputBox['validationMessage'] }, (box) => {
      const { text } = this.next('type', box.title ?? '');
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
          } catch (error) {
            this.told.push(String(error));
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
      if (this.cancelsNext) {
        this.cancelsNext = false;
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
