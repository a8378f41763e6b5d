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
        const passphrase = await ask(locked.file, locked.isWrong);
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

/** The image that wants a passphrase, when that is what an error says. */
function lockedBy(error: unknown): { readonly file: string; readonly isWrong: boolean } | null {
  if (!(error instanceof CallError) || error.wire.file === null) {
    return null;
  }
  return error.code === 'data.encrypted' || error.code === 'data.passphrase'
    ? { file: error.wire.file, isWrong: error.code === 'data.passphrase' }
    : null;
}

/** Undefined when the person gave none. */
async function ask(file: string, isWrong: boolean): Promise<string | undefined> {
  const name = plainText(path.basename(file), 80);
  const box = vscode.window.createInputBox();
  box.title = `Passphrase of ${name}`;
  box.prompt = `${name} is encrypted. Its passphrase is kept in memory until this window closes and is written nowhere.`;
  box.password = true;
  box.ignoreFocusOut = true;
  if (isWrong) {
    box.validationMessage = `That passphrase does not open ${name}. Try another.`;
  }
  try {
    return await new Promise<string | undefined>((resolve) => {
      box.onDidChangeValue(() => {
        box.validationMessage = undefined;
      });
      box.onDidAccept(() => {
        if (box.value === '') {
          box.validationMessage = 'Type the passphrase that the image was made with.';
        } else {
          resolve(box.value);
        }
      });
      box.onDidHide(() => resolve(undefined));
      box.show();
    });
  } finally {
    box.dispose();
  }
}
