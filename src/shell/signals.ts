import type * as vscode from 'vscode';

/** VS Code's cancellation as the signal that the engine's client takes. */
export function signalOf(token: Pick<vscode.CancellationToken, 'isCancellationRequested' | 'onCancellationRequested'>): AbortSignal {
  const controller = new AbortController();
  if (token.isCancellationRequested) {
    controller.abort();
  } else {
    token.onCancellationRequested(() => controller.abort());
  }
  return controller.signal;
}
