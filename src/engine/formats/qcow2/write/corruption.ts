import { isPromise, type Awaitable } from '../../../awaitable';
import { EngineError } from '../../../errors';
import type { Storage } from '../../../io/storage';
import { FEATURE } from '../structures';
import type { HeaderFields } from './headerFields';
import type { MetadataOrder } from './order';
import { run } from './steps';

/**
 * What becomes of an image whose metadata contradicts itself: nothing is written any more, and the header tells others, as QEMU does
 * (version 2 has no place to say so). It can still be read.
 */
export class Corruption {
  private readonly storage: Storage;
  private readonly header: HeaderFields;
  private readonly order: MetadataOrder;
  private marking: Promise<void> | null = null;

  constructor(storage: Storage, header: HeaderFields, order: MetadataOrder) {
    this.storage = storage;
    this.header = header;
    this.order = order;
  }

  /** Whether a contradiction was met. */
  get found(): boolean {
    return this.order.stopped !== null;
  }

  /** @throws EngineError `image.corrupt` once a contradiction was met */
  requireNone(): void {
    if (this.order.stopped) {
      throw this.order.stopped;
    }
  }

  /** Does the work; when it meets a contradiction, it fails after the image is marked. */
  guard<T>(work: () => Awaitable<T>): Awaitable<T> {
    let done: Awaitable<T>;
    try {
      done = work();
    } catch (error) {
      if (this.isOurs(error)) {
        return this.fail(error);
      }
      throw error;
    }
    return isPromise(done) ? done.catch((error: unknown) => this.fail(error)) : done;
  }

  private async fail(error: unknown): Promise<never> {
    if (this.isOurs(error)) {
      this.order.stopped ??= error;
      this.marking ??= this.mark(this.order.stopped);
      await this.marking;
    }
    throw error;
  }

  /** That an image below is damaged is not this one's fault. */
  private isOurs(error: unknown): error is EngineError {
    return (
      this.storage.writable && error instanceof EngineError && error.code === 'image.corrupt' && error.place.file === this.storage.name
    );
  }

  private async mark(reason: EngineError): Promise<void> {
    const { header, storage, order } = this;
    if (header.bigint('version') < 3n) {
      return;
    }
    try {
      await run(header.update({ incompatible_features: header.bigint('incompatible_features') | FEATURE.corrupt }));
      await storage.flush();
    } catch (error) {
      if (!(error instanceof EngineError)) {
        throw error;
      }
      // The request fails with what is wrong with the image; that it could not be marked too is said by the next, which tries again.
      this.marking = null;
      order.stopped = new EngineError('image.corrupt', `${reason.message} ${error.message}`, reason.place, error);
    }
  }
}
