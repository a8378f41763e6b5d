import type { BlockGraph } from '../engine/block/graph/blockGraph';
import type { OpenedImage } from '../engine/block/graph/openedImage';
import { invalidRequest } from '../engine/errors';
import { NbdServer } from '../engine/exports/nbdServer';
import { readServerCredentials } from '../engine/exports/serverCredentials';
import { storedBitmaps } from '../engine/exports/storedBitmap';
import type { OpeningGate } from '../engine/gate/gate';
import type { CopyOnReadStatus, ExportAddress, ExportInfo, ExportParams } from '../protocol/exports';
import type { ImageUses } from './imageUses';
import { pathsOf, requireLocks } from './manageHandlers';
import type { Passphrases } from './passphrases';
import type { SharedGraph } from './sharedGraph';

/** What went through is told this often while somebody is connected, in milliseconds. */
const TRAFFIC_MS = 1_000;

interface RunningExport {
  readonly params: ExportParams;
  readonly image: OpenedImage;
  readonly server: NbdServer;
  readonly address: ExportAddress;
  readonly copyOnRead: { on: boolean; problem: string | null };
}

/** The NBD exports of the worker. */
export class ImageExports {
  private readonly gate: OpeningGate;
  private readonly uses: ImageUses;
  private readonly passphrases: Passphrases;
  private readonly onChange: (exports: readonly ExportInfo[]) => void;
  private readonly running = new Map<number, RunningExport>();
  private readonly graph: SharedGraph;
  private timer: NodeJS.Timeout | null = null;
  private nextId = 1;

  constructor(
    gate: OpeningGate,
    uses: ImageUses,
    passphrases: Passphrases,
    graph: SharedGraph,
    onChange: (exports: readonly ExportInfo[]) => void,
  ) {
    this.gate = gate;
    this.uses = uses;
    this.passphrases = passphrases;
    this.graph = graph;
    graph.onDidChangeConnections(() => this.tell());
    this.onChange = onChange;
  }

  /** @throws EngineError as `BlockGraph.open` and `NbdServer.listen` */
  async start(params: ExportParams, signal: AbortSignal): Promise<ExportInfo> {
    const { path, format, writable, withoutLocks } = params;
    if (writable) {
      requireLocks(withoutLocks);
    }
    const paths = await pathsOf({ path, format }, { gate: this.gate, signal });
    const opened = this.uses.claim(
      paths.map((file, depth) => ({ path: file, writes: writable && depth === 0 })),
      'an NBD export',
      true,
    );
    const graph = this.graph.acquire(params.cacheBytes);
    try {
      return await this.serve(params, graph, signal);
    } catch (error) {
      this.graph.release();
      throw error;
    } finally {
      opened();
    }
  }

  private async serve(params: ExportParams, graph: BlockGraph, signal: AbortSignal): Promise<ExportInfo> {
    const { path, format, name, writable, address, allowRemote, tls } = params;
    const credentials = tls && readServerCredentials(tls.folder);
    const image = await graph.open(path, {
      format,
      readOnly: !writable,
      user: 'an NBD export',
      warmCaches: true,
      passphraseOf: this.passphrases.of,
      signal,
    });
    try {
      const { node } = image;
      const server = await NbdServer.listen({
        exports: [{ name, description: '', node, readOnly: !writable, allocationDepth: true, bitmaps: storedBitmaps(node) }],
        address,
        allowRemote,
        ...(tls && credentials ? { tls: credentials, verifyClients: tls.verifyClients } : {}),
      });
      const id = this.nextId++;
      this.running.set(id, {
        params,
        image,
        server,
        address: address.kind === 'tcp' ? { ...address, port: server.port ?? address.port } : address,
        copyOnRead: { on: false, problem: null },
      });
      server.onDidChangeClients(() => this.tell());
      this.tell();
      return this.describe(id, this.running.get(id)!);
    } catch (error) {
      await image.close();
      throw error;
    }
  }

  /** Ends when all clients are gone and what they wrote is on the disk. @throws EngineError */
  async stop(id: number): Promise<null> {
    const one = this.running.get(id);
    if (!one) {
      throw invalidRequest('This export has ended already.');
    }
    this.running.delete(id);
    // A job may use the node for longer.
    one.image.node.setCopyOnRead(null);
    try {
      await one.server.close();
    } finally {
      try {
        await one.image.close();
      } finally {
        this.graph.release();
        this.tell();
      }
    }
    return null;
  }

  /** @throws EngineError where there is nothing to copy, or nowhere to copy it to */
  setCopyOnRead(id: number, on: boolean): null {
    const one = this.running.get(id);
    if (!one) {
      throw invalidRequest('This export has ended already.');
    }
    const { image, copyOnRead } = one;
    if (copyOnReadOf(one) === null) {
      throw invalidRequest('Copy-on-read needs an export that is writable, of an image with a backing file.');
    }
    copyOnRead.on = on;
    if (on) {
      copyOnRead.problem = null;
    }
    const onError = (error: unknown) => {
      copyOnRead.problem = error instanceof Error ? error.message : String(error);
    };
    image.node.setCopyOnRead(on ? { bottom: null, onError } : null);
    this.tell();
    return null;
  }

  /** @throws the first that failed, when all have ended */
  async stopAll(): Promise<null> {
    const ends = await Promise.allSettled([...this.running.keys()].map((id) => this.stop(id)));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) {
      throw failed.reason;
    }
    return null;
  }

  private tell(): void {
    const exports = [...this.running].map(([id, one]) => this.describe(id, one));
    const busy = exports.some(({ clients }) => clients > 0);
    if (busy && this.timer === null) {
      this.timer = setInterval(() => this.tell(), TRAFFIC_MS).unref();
    } else if (!busy && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
    this.onChange(exports);
  }

  private describe(id: number, one: RunningExport): ExportInfo {
    const { params, image, server, address } = one;
    const { path, format, name, writable, tls } = params;
    return {
      id,
      path,
      format,
      name,
      writable,
      tls: tls !== null,
      address,
      uri: uriOf(address, name, tls !== null),
      size: image.node.size,
      unreachable: this.graph.unreachable(image.chain().map(({ filename }) => filename)),
      caches: image.chain().flatMap(({ cache }) => cache ?? []),
      copyOnRead: copyOnReadOf(one),
      clients: server.clients.length,
      ...server.traffic,
    };
  }
}

function copyOnReadOf({ params, image, copyOnRead }: RunningExport): CopyOnReadStatus | null {
  return params.writable && image.node.backing !== null ? { ...copyOnRead, ...image.node.readCounts } : null;
}

/** As the NBD project's `doc/uri.md` has it. */
export function uriOf(address: ExportAddress, name: string, tls: boolean): string {
  const scheme = tls ? 'nbds' : 'nbd';
  const place = encodeURIComponent(name);
  if (address.kind === 'unix') {
    return `${scheme}+unix:///${place}?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${scheme}://${host}:${address.port}/${place}`;
}
