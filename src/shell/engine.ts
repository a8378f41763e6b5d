import type * as vscode from 'vscode';

import type { Chain, ChainLink, ImageFormat } from '../protocol/chain';
import type { ImageMethod, ImageRequests, OpenParams, Progress } from '../protocol/engine';

export interface CallOptions {
  readonly token?: vscode.CancellationToken | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** An image that the worker holds open. */
export interface ImageSession {
  /** @throws EngineFailure */
  call<M extends ImageMethod>(method: M, params: ImageRequests[M]['params'], options?: CallOptions): Promise<ImageRequests[M]['result']>;
  /** The file, or one of its chain's, changed on the disk and was read again. */
  readonly onDidChange: vscode.Event<{ readonly links: readonly ChainLink[]; readonly changedFields: readonly string[] }>;
  close(): void;
}

/** The engine as the shell sees it. Every method starts the worker when it does not run. */
export interface Engine {
  describeChain(params: OpenParams, token: vscode.CancellationToken): Promise<Chain>;
  probeFiles(paths: readonly string[], token: vscode.CancellationToken): Promise<readonly (ImageFormat | null)[]>;
  openSession(params: OpenParams, token?: vscode.CancellationToken): Promise<ImageSession>;
  writeSample(folder: string, token: vscode.CancellationToken): Promise<void>;
  /** The worker ended by itself; all its sessions are gone. The reason is one sentence. */
  readonly onDidDie: vscode.Event<string>;
}
