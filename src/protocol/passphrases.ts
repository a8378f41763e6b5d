import { NotificationType } from 'vscode-jsonrpc';

/**
 * Tells the worker the passphrase of an encrypted image; null makes it forget it. It is kept in memory only. Errors `data.encrypted` and
 * `data.passphrase` say in `file` which image wants one.
 */
export const givePassphrase = new NotificationType<{ readonly file: string; readonly passphrase: string | null }>('passphrases/give');
