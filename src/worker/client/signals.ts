import { CancellationTokenSource, type CancellationToken } from 'vscode-jsonrpc/node';

import { plainError } from '../../protocol/imageClient';

/**
 * The same for a request that changes something: it ends when the worker has ended it, so that nothing happens any more when it is told to
 * have been cancelled.
 * @throws CallError
 */
export async function untilSettled<T>(signal: AbortSignal | undefined, send: (token: CancellationToken) => Promise<T>): Promise<T> {
  const source = new CancellationTokenSource();
  const cancel = (): void => source.cancel();
  if (signal?.aborted === true) {
    throw plainError('cancelled', 'Cancelled.');
  }
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    return await send(source.token);
  } finally {
    signal?.removeEventListener('abort', cancel);
    source.dispose();
  }
}

/**
 * Runs a request whose cancellation is an AbortSignal. Aborting rejects at once with `cancelled` and cancels the token.
 * @throws CallError
 */
export async function withSignal<T>(signal: AbortSignal | undefined, send: (token: CancellationToken) => Promise<T>): Promise<T> {
  const source = new CancellationTokenSource();
  if (!signal) {
    return send(source.token);
  }
  if (signal.aborted) {
    throw plainError('cancelled', 'Cancelled.');
  }
  let abort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => {
      source.cancel();
      reject(plainError('cancelled', 'Cancelled.'));
    };
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([send(source.token), aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
    source.dispose();
  }
}
