import * as path from 'node:path';
import * as vscode from 'vscode';

import { CallError, plainError } from '../protocol/imageClient';
import type { EngineClient } from '../worker/client';
import { tellInformation } from './messages';
import { plainText } from './text/plain';

/** Asks for the passphrases of encrypted images when one is needed. They are kept in memory until the window closes. */
export class Passphrases {
  private readonly engine: EngineClient;
  private readonly given = new Set<string>();

  constructor(engine: EngineClient) {
    this.engine = engine;
  }

  /**
   * Does something that may need passphrases: asks for each that is missing or wrong, and tries again.
   * @throws CallError what `work` throws for another reason; `cancelled` when the person gives none
   */
  async unlocking<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const locked = lockedBy(error);
        if (locked === null) {
          throw error;
        }
        const passphrase = await ask(unlocking(locked));
        if (passphrase === undefined) {
          if (locked.isWrong) {
            // The next who needs it is to be asked, not told that it is wrong.
            await this.give(locked.file, null);
          }
          throw plainError('cancelled', 'No passphrase was given.');
        }
        await this.give(locked.file, passphrase);
      }
    }
  }

  /** Asks for the passphrase that a new image is to be made with. False when the person gave none. */
  async choose(file: string): Promise<boolean> {
    const name = plainText(path.basename(file), 80);
    const title = `Passphrase of ${name}`;
    const passphrase = await ask({
      title,
      prompt: `Whoever opens ${name} needs it; without it nobody reads what is in the image.`,
      check: (text) => (text === '' ? 'Type a passphrase.' : null),
    });
    const again =
      passphrase &&
      (await ask({ title, prompt: 'The same passphrase again', check: (text) => (text === passphrase ? null : 'That is another one.') }));
    if (again === undefined) {
      return false;
    }
    await this.give(file, again);
    return true;
  }

  /** *Forget Passphrases*. */
  async forget(): Promise<void> {
    const count = this.given.size;
    for (const file of [...this.given]) {
      await this.give(file, null);
    }
    void tellInformation(
      count === 0
        ? 'No passphrase was given in this window.'
        : 'Forgotten. What is being served, or worked on by a job, stays unlocked until that ends.',
    );
  }

  private async give(file: string, passphrase: string | null): Promise<void> {
    if (passphrase === null) {
      this.given.delete(file);
    } else {
      this.given.add(file);
    }
    void vscode.commands.executeCommand('setContext', 'chainscope.knowsPassphrases', this.given.size > 0);
    await this.engine.givePassphrase(file, passphrase);
  }
}

interface LockedImage {
  readonly file: string;
  /** The passphrase that is known does not open it. */
  readonly isWrong: boolean;
}

/** The image that wants a passphrase, when that is what an error says. */
function lockedBy(error: unknown): LockedImage | null {
  if (!(error instanceof CallError) || error.wire.file === null) {
    return null;
  }
  return error.code === 'data.encrypted' || error.code === 'data.passphrase'
    ? { file: error.wire.file, isWrong: error.code === 'data.passphrase' }
    : null;
}

interface SecretField {
  readonly title: string;
  readonly prompt: string;
  /** What stands under it from the start. */
  readonly problem?: string;
  /** What keeps it from being accepted. */
  readonly check: (text: string) => string | null;
}

function unlocking({ file, isWrong }: LockedImage): SecretField {
  const name = plainText(path.basename(file), 80);
  return {
    title: `Passphrase of ${name}`,
    prompt: `${name} is encrypted. Its passphrase is kept in memory until this window closes and is written nowhere.`,
    ...(isWrong ? { problem: `That passphrase does not open ${name}. Try another.` } : {}),
    check: (text) => (text === '' ? 'Type the passphrase that the image was made with.' : null),
  };
}

/** Undefined when the person gave none. */
async function ask({ title, prompt, problem, check }: SecretField): Promise<string | undefined> {
  const box = vscode.window.createInputBox();
  box.title = title;
  box.prompt = prompt;
  box.password = true;
  box.ignoreFocusOut = true;
  box.validationMessage = problem;
  try {
    return await new Promise<string | undefined>((resolve) => {
      box.onDidChangeValue(() => {
        box.validationMessage = undefined;
      });
      box.onDidAccept(() => {
        const wrong = check(box.value);
        if (wrong === null) {
          resolve(box.value);
        } else {
          box.validationMessage = wrong;
        }
      });
      box.onDidHide(() => resolve(undefined));
      box.show();
    });
  } finally {
    box.dispose();
  }
}
