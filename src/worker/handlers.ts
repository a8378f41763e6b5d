import type { CancellationToken, MessageConnection } from 'vscode-jsonrpc';

import { openChain } from '../engine/chain/openChain';
import { invalidRequest } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import { probeFile } from '../engine/inspect/probeFile';
import type { PaceOptions, ProgressListener } from '../engine/pace';
import { writeSampleImages } from '../engine/sample/write';
import type { ImageFormat } from '../protocol/chain';
import {
  closeSession,
  describeChain,
  imageCall,
  imageChanged,
  openSession,
  probeFiles,
  progressType,
  writeSample,
  type ImageCall,
  type ImageMethod,
  type ImageRequests,
} from '../protocol/engine';
import { cacheFailed, exportsChanged, setCopyOnRead, startExport, stopAllExports, stopExport } from '../protocol/exports';
import { manageCall } from '../protocol/manage';
import { givePassphrase } from '../protocol/passphrases';
import { remoteGate } from './gate';
import { ImageExports } from './imageExports';
import { imageHandlers, type LookingMethod } from './imageHandlers';
import { ImageUses } from './imageUses';
import { ImageJobs, jobListeners } from './jobHandlers';
import { manage } from './manageHandlers';
import type { OpenImage } from './openImage';
import { Passphrases } from './passphrases';
import { Session } from './session';
import { ServerLooks } from './serverLooks';
import { SharedGraph } from './sharedGraph';
import { toResponseError } from './wire';

/** Progress goes out this often at most, in milliseconds; a bar needs no more. */
const PROGRESS_MS = 50;

/** Answers everything that the shell asks of the worker. The connection is the caller's to start listening on. */
export class EngineService {
  private readonly connection: MessageConnection;
  private readonly gate: OpeningGate;
  private readonly sessions = new Map<number, Session>();
  private readonly uses: ImageUses;
  private readonly passphrases = new Passphrases();
  private readonly exports: ImageExports;
  private nextSession = 1;

  constructor(connection: MessageConnection) {
    this.connection = connection;
    this.gate = remoteGate(connection);
    const graph = new SharedGraph(this.gate, (failure) => this.tell(connection.sendNotification(cacheFailed, failure)));
    this.uses = new ImageUses(graph);
    const { gate, uses, passphrases } = this;
    this.exports = new ImageExports(gate, uses, passphrases, graph, (exports) =>
      this.tell(connection.sendNotification(exportsChanged, { exports })),
    );
    const jobs = new ImageJobs({ gate, uses, passphrases, graph, ...jobListeners(connection, (sent) => this.tell(sent)) });
    jobs.answer(connection, answer);
    connection.onNotification(givePassphrase, ({ file, passphrase }) => this.takePassphrase(file, passphrase));
    connection.onRequest(openSession, ({ path, format }, token) => answer(token, (signal) => this.open(path, format, signal)));
    connection.onRequest(closeSession, ({ session }, token) => answer(token, () => this.close(session)));
    connection.onRequest(imageCall, (call, token) => answer(token, (signal) => this.call(call, signal)));
    connection.onRequest(manageCall, (call, token) =>
      answer(token, (signal) =>
        manage(call, {
          gate: this.gate,
          uses: this.uses,
          passphraseOf: this.passphrases.of,
          newPassphraseOf: this.passphrases.ofFile,
          withoutLocks: call.withoutLocks,
          signal,
          onProgress: this.progressTo(call.progressToken),
        }),
      ),
    );
    connection.onRequest(startExport, (params, token) => answer(token, (signal) => this.exports.start(params, signal)));
    connection.onRequest(stopExport, ({ id }, token) => answer(token, () => this.exports.stop(id)));
    connection.onRequest(setCopyOnRead, ({ id, on }, token) => answer(token, () => this.exports.setCopyOnRead(id, on)));
    connection.onRequest(stopAllExports, (_, token) => answer(token, () => this.exports.stopAll()));
    const looks = new ServerLooks((filename) => graph.connectionOf(filename));
    connection.onRequest(describeChain, ({ path, format, fresh = false }, token) =>
      answer(token, async (signal) => {
        const chain = await openChain(path, { gate: this.gate, format, signal, open: looks.openers(fresh) });
        chain.close();
        return { links: chain.links };
      }),
    );
    connection.onRequest(probeFiles, ({ paths }, token) => answer(token, () => ({ formats: paths.map((path) => probeFile(path)) })));
    connection.onRequest(writeSample, ({ folder }, token) =>
      answer(token, () => {
        writeSampleImages(folder);
        return null;
      }),
    );
  }

  private async open(path: string, format: ImageFormat | null, signal: AbortSignal): Promise<{ session: number }> {
    const id = this.nextSession++;
    const session = await Session.open(
      {
        path,
        format,
        gate: this.gate,
        passphraseOf: this.passphrases.of,
        onChange: (change) => this.tellChange(id, change),
        // It shows in the log; what was open stays.
        onFailure: (error) => process.stderr.write(`'${path}' could not be read again: ${String(error)}\n`),
      },
      signal,
    );
    this.sessions.set(id, session);
    return { session: id };
  }

  private close(id: number): null {
    this.sessions.get(id)?.close();
    this.sessions.delete(id);
    return null;
  }

  private async call(call: ImageCall, signal: AbortSignal): Promise<ImageRequests[ImageMethod]['result']> {
    const session = this.sessions.get(call.session);
    if (!session) {
      throw invalidRequest('The image is no longer open.');
    }
    const { method } = call;
    if (method === 'unlock') {
      return { encrypted: await session.unlock(signal) };
    }
    return dispatch(session, { ...call, method }, { signal, onProgress: this.progressTo(call.progressToken) });
  }

  /** What is taken back is shown no longer. */
  private takePassphrase(file: string, passphrase: string | null): void {
    this.passphrases.give(file, passphrase);
    if (passphrase === null) {
      this.sessions.forEach((session) => session.lock(file));
    }
  }

  private progressTo(token: string | null): ProgressListener | undefined {
    if (token === null) {
      return undefined;
    }
    let due = 0;
    return (done, total) => {
      const now = performance.now();
      if (now >= due) {
        due = now + PROGRESS_MS;
        this.tell(this.connection.sendProgress(progressType, token, { done, total }));
      }
    };
  }

  private tellChange(session: number, change: Parameters<Parameters<typeof Session.open>[0]['onChange']>[0]): void {
    this.tell(this.connection.sendNotification(imageChanged, { session, ...change }));
  }

  /** A notification that cannot be sent has nobody left to read it. */
  private tell(sent: Promise<void>): void {
    sent.catch(() => undefined);
  }
}

/** The one place where a method's name meets its parameters: the table's types hold the two together, the wire's union does not. */
async function dispatch(
  session: Session,
  { method, params }: ImageCall & { readonly method: LookingMethod },
  options: PaceOptions,
): Promise<ImageRequests[ImageMethod]['result']> {
  if (!Object.hasOwn(imageHandlers, method)) {
    throw invalidRequest(`The engine has no method '${method}'.`);
  }
  const handler = imageHandlers[method] as (
    image: OpenImage,
    params: ImageCall['params'],
    options: PaceOptions,
  ) => ImageRequests[ImageMethod]['result'] | Promise<ImageRequests[ImageMethod]['result']>;
  return session.use((image) => handler(image, params, options));
}

/** Runs a handler with the request's cancellation as a signal, and lets errors cross with all that is known of them. */
async function answer<T>(
  token: CancellationToken,
  work: (signal: AbortSignal) => T | Promise<T>,
): Promise<T | ReturnType<typeof toResponseError>> {
  const aborted = new AbortController();
  const listener = token.onCancellationRequested(() => aborted.abort());
  if (token.isCancellationRequested) {
    aborted.abort();
  }
  try {
    return await work(aborted.signal);
  } catch (error) {
    return toResponseError(error);
  } finally {
    listener.dispose();
  }
}
