import * as path from 'node:path';

import { plainError } from '../../protocol/imageClient';
import type { ImageEditors } from '../editor/imageEditors';
import { tellInformation } from '../messages';
import type { Passphrases } from '../passphrases';
import { plainText } from '../text/plain';
import { SlowProgress } from './slowProgress';

interface UnlockParts {
  readonly editors: ImageEditors;
  readonly passphrases: Passphrases;
}

/** *Unlock Image…*: has an image's editor show the data of its encrypted layers, for which it asks for the passphrases. @throws CallError */
export async function unlockImage({ editors, passphrases }: UnlockParts, file: string): Promise<void> {
  const name = plainText(path.basename(file), 80);
  await editors.open(file);
  const document = editors.documentOf(file);
  if (document === undefined) {
    throw plainError('request.invalid', `${name} is not open in an editor.`);
  }
  const { encrypted } = await passphrases.unlocking(async () => {
    const { session } = await document.opened();
    const cancellation = new AbortController();
    // An image says itself how much work its passphrase takes, and may ask for a lot.
    const unlocking = session.call('unlock', null, { signal: cancellation.signal });
    await new SlowProgress().showWhenSlow(unlocking, `Unlocking ${name}`, () => cancellation.abort());
    return unlocking;
  });
  if (encrypted === 0) {
    void tellInformation(`Neither ${name} nor an image below it is encrypted: there is nothing to unlock.`);
  }
}
