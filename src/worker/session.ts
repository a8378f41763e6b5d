import { openChain } from '../engine/block/chain';
import { LOOKING } from '../engine/block/follow';
import { EngineError } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import { DEFAULT_WATCH, FileWatch, type WatchOptions } from '../engine/io/watch';
import type { ChainLink, ImageFormat } from '../protocol/chain';
import { changedFields } from './changes';
import { OpenImage } from './openImage';
import { UsageWatch } from './usageWatch';

export interface SessionOptions {
  /** Absolute. */
  readonly path: string;
  readonly format: ImageFormat | null;
  readonly gate: OpeningGate;
  readonly watch?: WatchOptions;
  /** The image or a file of its chain changed and was read again. */
  readonly onChange: (change: { readonly links: readonly ChainLink[]; readonly changedFields: readonly string[] }) => void;
  /** Reading it again failed for a reason that nothing on the disk explains. */
  readonly onFailure: (error: unknown) => void;
}

/** An image that somebody looks at: its chain, opened, and read again whenever one of its files changes. */
export class Session {
  private readonly options: SessionOptions;
  private readonly files: FileWatch;
  private usage: UsageWatch;
  private image: OpenImage;
  private reading = false;
  private changedMeanwhile = false;
  private closed = false;

  private constructor(options: SessionOptions, image: OpenImage, files: FileWatch) {
    this.options = options;
    this.image = image;
    this.files = files;
    files.watch(filesOf(image));
    this.usage = this.watchUsage();
  }

  /** @throws EngineError when the image's own file does not open */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<Session> {
    const { path, format, gate, watch = DEFAULT_WATCH } = options;
    // Watched before it is read, so that no change falls between the two.
    const opened: { session?: Session } = {};
    const files = new FileWatch([path], () => opened.session?.changed(), watch);
    try {
      opened.session = new Session(options, new OpenImage(await openChain(path, { gate, format, signal, open: LOOKING })), files);
      return opened.session;
    } catch (error) {
      files.close();
      throw error;
    }
  }

  /** Works on the image as it was last read. */
  async use<T>(work: (image: OpenImage) => T | Promise<T>): Promise<T> {
    return this.image.use(work);
  }

  close(): void {
    this.closed = true;
    this.files.close();
    this.usage.close();
    this.image.retire();
  }

  /** A call, since it changes while something is awaited. */
  private isClosed(): boolean {
    return this.closed;
  }

  private watchUsage(): UsageWatch {
    const { links, layers } = this.image.chain;
    return new UsageWatch(layers[0]!.source, links[0]?.image?.usage ?? null, () => this.changed());
  }

  private changed(): void {
    this.changedMeanwhile = true;
    if (!this.reading) {
      this.reading = true;
      void this.readAgain()
        .catch((error: unknown) => this.options.onFailure(error))
        .finally(() => {
          this.reading = false;
        });
    }
  }

  /** Reads until nothing changed while it was reading. */
  private async readAgain(): Promise<void> {
    const { path, format, gate } = this.options;
    while (this.changedMeanwhile && !this.isClosed()) {
      this.changedMeanwhile = false;
      let next: OpenImage;
      try {
        next = new OpenImage(await openChain(path, { gate, format, open: LOOKING }));
      } catch (error) {
        if (!(error instanceof EngineError)) {
          throw error;
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
      this.files.watch(filesOf(next));
      this.usage.close();
      this.usage = this.watchUsage();
      this.options.onChange({ links: next.chain.links, changedFields: changedFields(before.overview, next.overview) });
    }
  }
}

function filesOf({ chain }: OpenImage): string[] {
  return chain.links.map(({ path }) => path).filter((path) => path !== null);
}
