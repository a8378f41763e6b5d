import { openChain } from '../engine/chain/openChain';
import { LOOKING } from '../engine/chain/follow';
import type { Layer } from '../engine/chain/layer';
import { carryCiphers, encryptedLayers, unlockAll } from '../engine/chain/unlock';
import { EngineError } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import { DEFAULT_WATCH, FileWatch, type WatchOptions } from '../engine/io/watch';
import type { ChainLink, ImageFormat } from '../protocol/chain';
import { changedFields } from './changes';
import { OpenImage } from './openImage';
import { isNamed } from './passphrases';
import { UsageWatch } from './usageWatch';

export interface SessionOptions {
  /** Absolute. */
  readonly path: string;
  readonly format: ImageFormat | null;
  readonly gate: OpeningGate;
  /** What is known of the passphrases of encrypted layers. */
  readonly passphraseOf: (layer: Layer) => Uint8Array | null;
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
      opened.session.unlockKnown();
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

  /**
   * Shows the data of encrypted layers from now on.
   * @returns how many layers are encrypted
   * @throws EngineError `data.encrypted`, `data.passphrase` with the file that wants one, `cancelled`
   */
  async unlock(signal?: AbortSignal): Promise<number> {
    return this.use(async (image) => {
      const ciphers = await unlockAll(image.chain, this.options.passphraseOf, signal);
      // It may have been read again meanwhile.
      const now = this.image;
      this.show(now, now === image ? ciphers : await carryCiphers(ciphers, now.chain));
      return encryptedLayers(image.chain).length;
    });
  }

  /** Shows the data of an encrypted layer no longer. @param file as errors name it */
  lock(file: string): void {
    const { ciphers } = this.image;
    const left = new Map([...ciphers].filter(([layer]) => !isNamed(layer, file)));
    if (left.size < ciphers.size) {
      this.show(this.image, left);
    }
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

  private show(image: OpenImage, ciphers: OpenImage['ciphers']): void {
    image.decrypt(ciphers);
    if (image === this.image && !this.isClosed()) {
      this.options.onChange({ links: image.chain.links, changedFields: [] });
    }
  }

  /** What somebody was asked for already need not be asked for again; deriving the keys takes its time, and nobody waits for it. */
  private unlockKnown(): void {
    const encrypted = encryptedLayers(this.image.chain);
    if (encrypted.length > 0 && encrypted.every((layer) => this.options.passphraseOf(layer) !== null)) {
      this.unlock().catch((error: unknown) => {
        if (!(error instanceof EngineError)) {
          this.options.onFailure(error);
        }
      });
    }
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
      const before = this.image;
      next.decrypt(await carryCiphers(before.ciphers, next.chain));
      if (this.isClosed()) {
        next.retire();
        return;
      }
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
