import { openChain } from '../engine/block/chain';
import type { OpenedChain } from '../engine/block/layer';
import { isCancelled } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import { DEFAULT_WATCH, FileWatch, type WatchOptions } from '../engine/io/watch';
import type { ChainLink, ImageFormat } from '../protocol/chain';
import { changedFields } from './changes';
import { OpenImage } from './openImage';

export interface SessionOptions {
  readonly path: string;
  readonly format: ImageFormat | null;
  readonly gate: OpeningGate;
  readonly watch?: WatchOptions;
  /** The image or a file of its chain changed and was read again. */
  readonly onChange: (change: { readonly links: readonly ChainLink[]; readonly changedFields: readonly string[] }) => void;
}

/** An image that somebody looks at: its chain, opened, and read again whenever one of its files changes. */
export class Session {
  private readonly options: SessionOptions;
  private image: OpenImage;
  private watch: FileWatch;
  private reading: Promise<void> | null = null;
  private changedMeanwhile = false;
  private closed = false;

  private constructor(options: SessionOptions, chain: OpenedChain) {
    this.options = options;
    this.image = new OpenImage(chain);
    this.watch = this.watchFiles();
  }

  /** @throws EngineError when the image's own file does not open */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<Session> {
    const { path, format, gate } = options;
    return new Session(options, await openChain(path, { gate, format, signal }));
  }

  /** Works on the image as it was last read. */
  async use<T>(work: (image: OpenImage) => T | Promise<T>): Promise<T> {
    return this.image.use(work);
  }

  close(): void {
    this.closed = true;
    this.watch.close();
    this.image.retire();
  }

  /** A call, since it changes while something is awaited. */
  private isClosed(): boolean {
    return this.closed;
  }

  private watchFiles(): FileWatch {
    const files = this.image.chain.links.map(({ path }) => path).filter((path) => path !== null);
    return new FileWatch(files, () => this.changed(), this.options.watch ?? DEFAULT_WATCH);
  }

  private changed(): void {
    this.changedMeanwhile = true;
    this.reading ??= this.readAgain().finally(() => {
      this.reading = null;
    });
  }

  /** Reads until nothing changed while it was reading. */
  private async readAgain(): Promise<void> {
    while (this.changedMeanwhile && !this.isClosed()) {
      this.changedMeanwhile = false;
      const { path, format, gate } = this.options;
      let next: OpenImage;
      try {
        next = new OpenImage(await openChain(path, { gate, format }));
      } catch (error) {
        if (isCancelled(error)) {
          return;
        }
        // Gone, or being replaced: what was open stays, its descriptors hold the old file. The watch tells when there is a new one.
        continue;
      }
      if (this.isClosed()) {
        next.retire();
        return;
      }
      const before = this.image;
      this.image = next;
      before.retire();
      this.watch.close();
      this.watch = this.watchFiles();
      this.options.onChange({ links: next.chain.links, changedFields: changedFields(before.overview, next.overview) });
    }
  }
}
