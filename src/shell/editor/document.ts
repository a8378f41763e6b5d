import * as path from 'node:path';
import * as vscode from 'vscode';

import type { Chain, ChainLink } from '../../protocol/chain';
import type { WireError } from '../../protocol/engine';
import { formatByName } from '../chains/imageNames';
import { ENGINE_DIED, plainError } from '../../protocol/imageClient';
import type { EngineClient } from '../../worker/client';
import type { ImageSession } from '../../worker/client/imageSession';
import { isCancelled, isEngineDeath, wireErrorOf } from '../errors';
import { Deaths, MAX_DEATHS } from '../deaths';
import { DisposableStore } from '../lifecycle';
import { literalGlob } from '../text/globs';

export type DocumentState =
  | { readonly kind: 'opening' }
  | { readonly kind: 'open'; readonly session: ImageSession; readonly chain: Chain }
  /** `retried`: it is looked at again when the file changes. */
  | { readonly kind: 'failed'; readonly error: WireError; readonly retried: boolean };

export interface ImageChange {
  readonly changedFields: readonly string[];
}

/**
 * An image that is open in one or several editors: the session in the worker behind them and what is to happen when that ends. Always
 * made, also for what cannot be opened: the editor then says why, and looks again when the file changes.
 */
export class ImageDocument implements vscode.CustomDocument {
  readonly uri: vscode.Uri;
  private readonly engine: EngineClient;
  private readonly disposables = new DisposableStore();
  private readonly life = new AbortController();
  private readonly stateChanged = this.disposables.add(new vscode.EventEmitter<DocumentState>());
  readonly onDidChangeState = this.stateChanged.event;
  private readonly imageChanged = this.disposables.add(new vscode.EventEmitter<ImageChange>());
  /** The file, or one of its chain's, changed on the disk. */
  readonly onDidChangeImage = this.imageChanged.event;
  private readonly disposed = new vscode.EventEmitter<void>();
  readonly onDidDispose = this.disposed.event;
  private current: DocumentState = { kind: 'opening' };
  /** Told apart from later ones, so that an opening that was overtaken leaves no trace. */
  private attempt = 0;
  private readonly deaths = new Deaths();
  private retryWatcher: vscode.FileSystemWatcher | undefined;

  constructor(uri: vscode.Uri, engine: EngineClient) {
    this.uri = uri;
    this.engine = engine;
    this.disposables.add(engine.onDidDie(({ reason }) => this.survive(reason)));
    void this.reopen();
  }

  get path(): string {
    return this.uri.fsPath;
  }

  get state(): DocumentState {
    return this.current;
  }

  /** The session, as soon as there is one. @throws EngineFailure */
  async opened(): Promise<Extract<DocumentState, { kind: 'open' }>> {
    while (this.current.kind === 'opening') {
      await new Promise<void>((resolve) => {
        const listener = this.onDidChangeState(done);
        const end = this.onDidDispose(done);
        function done(): void {
          listener.dispose();
          end.dispose();
          resolve();
        }
      });
      if (this.life.signal.aborted) {
        throw plainError('cancelled', 'The editor was closed.');
      }
    }
    if (this.current.kind === 'failed') {
      const { code, message, remedy } = this.current.error;
      throw plainError(code, message, remedy);
    }
    return this.current;
  }

  /** Opens the image anew, from its name on: what may be opened has changed, or what is there. */
  async reopen(): Promise<void> {
    this.attempt += 1;
    const { attempt } = this;
    this.release();
    this.become({ kind: 'opening' });
    let state: DocumentState;
    try {
      state = await this.open();
    } catch (error) {
      if (isCancelled(error) || isEngineDeath(error)) {
        // A death is told by the engine's event too, which decides what follows.
        return;
      }
      state = { kind: 'failed', error: wireErrorOf(error), retried: this.uri.scheme === 'file' };
    }
    if (attempt !== this.attempt || this.life.signal.aborted) {
      closeSession(state);
      return;
    }
    if (state.kind === 'open') {
      state.session.onDidChange(({ links, changedFields }) => this.noteChange(links, changedFields));
    } else if (state.kind === 'failed' && state.retried) {
      this.retryWhenChanged();
    }
    this.become(state);
  }

  dispose(): void {
    this.life.abort();
    this.release();
    this.disposed.fire();
    this.disposed.dispose();
    this.disposables.dispose();
  }

  private async open(): Promise<DocumentState> {
    if (this.uri.scheme !== 'file') {
      throw plainError(
        'request.invalid',
        `Chainscope reads files of this machine; this one is behind '${this.uri.scheme}:'.`,
        'Copy the image into a folder and open it there.',
      );
    }
    const { signal } = this.life;
    const [probed] = await this.engine.probeFiles([this.path], { signal });
    const session = await this.engine.openSession({ path: this.path, format: probed ?? formatByName(this.path) }, signal);
    try {
      const { chain } = await session.call('overview', null, { signal });
      return { kind: 'open', session, chain };
    } catch (error) {
      session.close();
      throw error;
    }
  }

  private noteChange(links: readonly ChainLink[], changedFields: readonly string[]): void {
    if (this.current.kind === 'open') {
      // Not a change of state: the session goes on.
      this.current = { ...this.current, chain: { links } };
      this.imageChanged.fire({ changedFields });
    }
  }

  /** The client opens the session again in the next worker; what the editors show is asked for anew then. */
  private survive(reason: string): void {
    if (this.current.kind === 'failed') {
      return;
    }
    if (this.deaths.add()) {
      this.attempt += 1;
      this.release();
      const message = `The engine ended ${MAX_DEATHS} times while this image was open: ${reason}`;
      this.become({
        kind: 'failed',
        error: plainError(ENGINE_DIED, message, 'Close it and open it again to try once more.').wire,
        retried: false,
      });
    } else if (this.current.kind === 'open') {
      this.become(this.current);
    } else {
      void this.reopen();
    }
  }

  private become(state: DocumentState): void {
    this.current = state;
    this.stateChanged.fire(state);
  }

  /** What could not be opened may be repaired, finished, or put where it belongs. */
  private retryWhenChanged(): void {
    const pattern = new vscode.RelativePattern(vscode.Uri.file(path.dirname(this.path)), literalGlob(path.basename(this.path)));
    this.retryWatcher = vscode.workspace.createFileSystemWatcher(pattern);
    this.retryWatcher.onDidChange(() => void this.reopen());
    this.retryWatcher.onDidCreate(() => void this.reopen());
  }

  private release(): void {
    this.retryWatcher?.dispose();
    this.retryWatcher = undefined;
    closeSession(this.current);
  }
}

function closeSession(state: DocumentState): void {
  if (state.kind === 'open') {
    state.session.close();
  }
}
