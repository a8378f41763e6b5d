import type { ChainLink, ImageFormat, ImageSummary } from '../../protocol/chain';
import { cancelled, unsupported } from '../errors';
import { protocolOf, resolveName, type ResolvedName } from '../gate/filename';
import type { OpeningGate } from '../gate/gate';
import { remoteNameOf } from '../gate/remoteName';
import { fileKey, FileSource } from '../io/file';
import { loading } from '../io/loading';
import { LockTable, usageOf, USAGE_UNKNOWN } from '../io/locks';
import type { ByteSource } from '../io/source';
import { isWritable } from '../io/writable';
import { backingReference, dataReferences, imageFormat, readDetail, virtualSizeOf } from './detail';
import { follow, notOpen, READING, type Openers, type Reference } from './follow';
import type { Layer, LayerDetail, OpenedChain } from './layer';
import { summarizeImage } from './summary';

export interface OpenChainOptions {
  /** Asked before anything is opened because an image names it. */
  readonly gate: OpeningGate;
  /** The active layer's format; guessed from its first bytes when left out. */
  readonly format?: ImageFormat | null | undefined;
  /** Folder for the names that QEMU takes relative to where it runs (see `NameContext`). The command line gives its own. */
  readonly currentFolder?: string | undefined;
  /** A look at the system's locks, to share between many chains; taken freshly when left out. */
  readonly locks?: LockTable | null | undefined;
  /** How files and servers are opened. */
  readonly open?: Openers | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A chain is as long as its names make it; one longer than this was made to exhaust us. */
export const MAX_CHAIN_DEPTH = 10_000;

/**
 * Opens an image and what it is built on, for looking at: read-only, without locks, and leniently (a bad header is a problem of the
 * summary, not an error). What the gate refuses, what is missing, unreadable or loops ends the chain as a link that says so.
 * @throws EngineError when the active layer's file cannot be opened or is of a format that cannot be read; `cancelled`
 */
export async function openChain(file: string, options: OpenChainOptions): Promise<OpenedChain> {
  const opening = new ChainOpening(options);
  try {
    return await opening.run(file);
  } catch (error) {
    opening.close();
    throw error;
  }
}

/** An open file on its way to becoming a layer. */
interface Candidate {
  readonly source: ByteSource;
  /** Null for what lies on a server. */
  readonly path: string | null;
  readonly filename: string;
  /** The name that led here, as it stands in the overlay. */
  readonly recordedName: string;
}

/** The open files beside an image's own that hold its data. */
interface DataFiles {
  readonly dataFile: ByteSource | null;
  readonly extents: readonly (ByteSource | null)[];
}

class ChainOpening {
  private readonly options: OpenChainOptions;
  private readonly locks: LockTable | null;
  private readonly open: Openers;
  private readonly sources: ByteSource[] = [];
  private readonly layers: Layer[] = [];
  private readonly links: ChainLink[] = [];
  /** The chain's files so far, to see it loop. */
  private readonly seen = new Set<string>();

  constructor(options: OpenChainOptions) {
    this.options = options;
    this.open = options.open ?? READING;
    this.locks = options.locks === undefined ? LockTable.read() : options.locks;
  }

  async run(file: string): Promise<OpenedChain> {
    this.throwIfCancelled();
    const { format = null } = this.options;
    const { path, remote } = activeImage(file);
    const source = this.keep(remote ? await this.open.remote(remote) : this.open.file(path ?? file, file));
    const candidate = { source, path, filename: remote?.filename ?? file, recordedName: file };
    let overlay: Layer | null = await this.addLayer(candidate, await loading(() => readDetail(source, format)), format !== null);
    let complete = false;
    while (overlay) {
      const reference = backingReference(overlay.detail);
      complete = reference === null;
      overlay = reference && (await this.addBacking(reference, overlay));
    }
    return { complete, layers: this.layers, links: this.links, close: () => this.close() };
  }

  close(): void {
    for (const source of this.sources) {
      source.close();
    }
  }

  /** Follows a backing file's name; null when the chain ends there. */
  private async addBacking(reference: Reference, overlay: Layer): Promise<Layer | null> {
    const { recordedName, role } = reference;
    this.throwIfCancelled();
    if (this.layers.length >= MAX_CHAIN_DEPTH) {
      const message = `The chain is deeper than ${MAX_CHAIN_DEPTH} images; the rest is not opened.`;
      this.links.push({ recordedName, role, path: null, image: null, state: { kind: 'unreadable', message } });
      return null;
    }
    const followed = await follow(reference, overlay, this.options.gate, this.options.currentFolder, this.open);
    if (followed.source === null) {
      this.links.push({ recordedName, role, image: null, path: followed.path, state: followed.state });
      return null;
    }
    const source = this.keep(followed.source);
    if (this.seen.has(identityOf(source))) {
      this.links.push({ recordedName, role, image: null, path: followed.path, state: { kind: 'loop' } });
      return null;
    }
    let detail: LayerDetail;
    try {
      detail = await loading(() => readDetail(source, reference.format === null ? null : imageFormat(reference.format, source)));
    } catch (error) {
      this.links.push({ recordedName, role, image: null, path: followed.path, state: notOpen(error) });
      return null;
    }
    return this.addLayer({ ...followed, source, recordedName }, detail, reference.format !== null);
  }

  private async addLayer(candidate: Candidate, detail: LayerDetail, formatRecorded: boolean): Promise<Layer> {
    const { source, filename, recordedName } = candidate;
    this.seen.add(identityOf(source));
    const virtualSize = virtualSizeOf(source, detail);
    const image = await loading(() => this.summarize(candidate, detail));
    const link: ChainLink = {
      recordedName,
      path: candidate.path,
      role: this.layers.length === 0 ? 'active' : 'backing',
      state: { kind: 'open' },
      image,
    };
    this.links.push(link);
    const { dataFile, extents } = await this.addDataLinks(candidate, detail);
    const layer: Layer = {
      source,
      filename,
      formatRecorded,
      virtualSize,
      link,
      path: candidate.path ?? filename,
      depth: this.layers.length,
      detail: detail.format === 'qcow2' ? { ...detail, dataFile } : detail.format === 'vmdk' ? { ...detail, extents } : detail,
    };
    this.layers.push(layer);
    return layer;
  }

  /** Adds links for the files that hold an image's data; they stay open. */
  private async addDataLinks(holder: Candidate, detail: LayerDetail): Promise<DataFiles> {
    let dataFile: ByteSource | null = null;
    const extents: (ByteSource | null)[] = [];
    // Several extents may lie in one file: it is opened, and shown, once.
    const known = new Map<string, ByteSource | null>();
    for (const reference of dataReferences(detail)) {
      const { recordedName, role } = reference;
      this.throwIfCancelled();
      const before = known.get(recordedName);
      if (before !== undefined) {
        extents.push(before);
        continue;
      }
      known.set(recordedName, null);
      if (role === 'extent' && protocolOf(recordedName) !== null) {
        // Extents are files beside their descriptor; a protocol in their place was put there to reach something else.
        this.links.push({ recordedName, role, image: null, path: null, state: { kind: 'refused', reason: 'protocol' } });
        extents.push(null);
        continue;
      }
      const followed = await follow(
        reference,
        { ...holder, path: holder.path ?? holder.filename },
        this.options.gate,
        this.options.currentFolder,
        this.open,
      );
      if (followed.source === null) {
        this.links.push({ recordedName, role, image: null, path: followed.path, state: followed.state });
        extents.push(null);
        continue;
      }
      const source = this.keep(followed.source);
      known.set(recordedName, source);
      if (role === 'data-file') {
        dataFile = source;
      } else {
        extents.push(source);
      }
      try {
        const format = reference.format === null ? null : imageFormat(reference.format, source);
        const image = await loading(() => this.summarize({ ...followed, source }, readDetail(source, format)));
        this.links.push({ recordedName, role, image, path: followed.path, state: { kind: 'open' } });
      } catch (error) {
        this.links.push({ recordedName, role, image: null, path: followed.path, state: notOpen(error) });
      }
    }
    return { dataFile, extents };
  }

  private summarize({ source, path: file }: Pick<Candidate, 'source' | 'path'>, detail: LayerDetail): ImageSummary {
    const virtualSize = virtualSizeOf(source, detail);
    const usage = source instanceof FileSource ? usageOf(source, this.locks) : USAGE_UNKNOWN;
    return summarizeImage({ source, detail, virtualSize, usage, readOnly: file === null || !isWritable(file) });
  }

  private keep(source: ByteSource): ByteSource {
    this.sources.push(source);
    return source;
  }

  private throwIfCancelled(): void {
    if (this.options.signal?.aborted) {
      throw cancelled();
    }
  }
}

/**
 * The path of the file that the caller names. It may have a `file:` or `json:` prefix, as on qemu-img's command line.
 * @throws EngineError `format.unsupported`, `address.invalid` for what is no plain local file
 */
export function activeName(file: string): string {
  const { path } = activeImage(file);
  if (path === null) {
    throw unsupported(file, 'file name', 0, 'It leads to a server.');
  }
  return path;
}

function activeImage(file: string): Pick<ResolvedName, 'path' | 'remote'> {
  const resolved = resolveName(file, { role: 'backing', imageFilename: '', currentFolder: process.cwd() });
  const { path, protocol, remote } = resolved;
  if (path === null && remote === null) {
    // Says what is wrong with it, when it is an address that is none.
    remoteNameOf(file);
    throw unsupported(file, 'file name', 0, protocol === 'json' ? 'It describes no plain local file.' : `Unknown protocol '${protocol}'.`);
  }
  return resolved;
}

/** Equal for two names of one file. */
function identityOf(source: ByteSource): string {
  return source instanceof FileSource ? fileKey(source.identity) : source.name;
}
