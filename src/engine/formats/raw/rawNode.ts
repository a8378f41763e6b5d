import { after, type Awaitable } from '../../awaitable';
import type { BlockNode, NodeStatus, Preallocation, WriteOptions, ZeroOptions } from '../../block/blockNode';
import { RequestsInFlight } from '../../block/inFlight';
import { EngineError, invalidRequest, readOnlyImage, unsupportedRequest } from '../../errors';
import { loading, NotLoaded } from '../../io/loading';
import { readPadded } from '../../io/source';
import type { Storage } from '../../io/storage';
import { probeBytes, PROBE_BYTES } from '../probe';
import { rawVirtualSize } from './size';

export interface RawNodeOptions {
  readonly nodeName: string;
  readonly filename: string;
  readonly readOnly: boolean;
  /** Nobody said that the image is raw, its first bytes did: they may not become those of another format. */
  readonly probed?: boolean | undefined;
}

/** A raw image as a node: every byte is where it is, holes are zeroes. */
export class RawNode implements BlockNode {
  readonly driver = 'raw';
  readonly clusterSize = null;
  readonly backing = null;
  readonly nodeName: string;
  readonly filename: string;
  readonly readOnly: boolean;
  readonly storage: Storage;
  private readonly probed: boolean;
  private readonly requests: RequestsInFlight;

  /** The node owns `storage` from then on. @throws EngineError `request.readOnly` when the storage cannot be written but must */
  constructor(storage: Storage, { nodeName, filename, readOnly, probed = false }: RawNodeOptions) {
    if (!readOnly && !storage.writable) {
      throw readOnlyImage(filename);
    }
    this.storage = storage;
    this.nodeName = nodeName;
    this.filename = filename;
    this.readOnly = readOnly;
    this.probed = probed;
    this.requests = new RequestsInFlight(filename);
  }

  get size(): number {
    return rawVirtualSize(this.storage.size);
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.requests.require(guestOffset, target.length, this.size);
    try {
      this.readNow(guestOffset, target);
    } catch (error) {
      if (!(error instanceof NotLoaded)) {
        throw error;
      }
      return this.requests.track(
        error.load().then(() =>
          loading(() => {
            this.readNow(guestOffset, target);
          }),
        ),
      );
    }
  }

  private readNow(guestOffset: number, target: Uint8Array): void {
    const count = this.storage.read(target, guestOffset);
    if (count < target.length) {
      // The rest of the last sector.
      target.fill(0, count);
    }
  }

  willRead(guestOffset: number, length: number): void {
    this.storage.willRead?.(guestOffset, length);
  }

  write(guestOffset: number, bytes: Uint8Array, options: WriteOptions = {}): Awaitable<void> {
    this.requests.require(guestOffset, bytes.length, this.size);
    this.requireWritable();
    if (!this.probed || guestOffset >= PROBE_BYTES || bytes.length === 0) {
      return this.requests.track(this.durable(this.storage.write(bytes, guestOffset), options));
    }
    const written = after(
      loading(() => this.requireStillRaw(guestOffset, bytes)),
      () => this.storage.write(bytes, guestOffset),
    );
    return this.requests.track(this.durable(written, options));
  }

  writeZeroes(guestOffset: number, length: number, options: ZeroOptions = {}): Awaitable<void> {
    this.requests.require(guestOffset, length, this.size);
    this.requireWritable();
    return this.requests.track(this.durable(this.storage.writeZeroes(guestOffset, length, { unmap: options.mayUnmap === true }), options));
  }

  discard(guestOffset: number, length: number): Awaitable<void> {
    this.requests.require(guestOffset, length, this.size);
    this.requireWritable();
    return this.requests.track(this.storage.discard(guestOffset, length));
  }

  async flush(): Promise<void> {
    if (!this.readOnly) {
      await this.requests.track(this.storage.flush());
    }
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    this.requests.require(guestOffset, Math.max(1, length), this.size);
    return loading((): NodeStatus => {
      if (guestOffset >= this.storage.size) {
        return { class: 'zero', length, hostOffset: null };
      }
      const extent = this.storage.extentAt(guestOffset);
      return { class: extent.data ? 'data' : 'zero', length: Math.min(length, extent.length), hostOffset: guestOffset };
    });
  }

  reserve(guestOffset: number, length: number): boolean {
    this.requests.require(guestOffset, length, this.size);
    this.requireWritable();
    // The disk may end in the last sector of the file, which the file need not fill.
    return this.storage.reserve?.(guestOffset, Math.min(length, this.storage.size - guestOffset)) ?? false;
  }

  async resize(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.requireWritable();
    if (preallocation === 'metadata') {
      throw unsupportedRequest('Unsupported preallocation mode: metadata');
    }
    if (!(Number.isSafeInteger(size) && size >= 0)) {
      throw invalidRequest('Invalid image size specified');
    }
    if (preallocation !== 'off' && size < this.size) {
      throw unsupportedRequest("Preallocation can't be used for shrinking files");
    }
    await this.requests.track(this.storage.truncate(size, preallocation));
  }

  async close(): Promise<void> {
    if (this.requests.ended) {
      return;
    }
    await this.requests.end();
    try {
      if (!this.readOnly) {
        await this.storage.flush();
      }
    } finally {
      this.storage.close();
    }
  }

  /** @throws EngineError `request.unsupported` when the first bytes would be those of a format whose metadata the next opening believes */
  private requireStillRaw(guestOffset: number, bytes: Uint8Array): void {
    const head = readPadded(this.storage, 0, PROBE_BYTES);
    head.set(bytes.subarray(0, PROBE_BYTES - guestOffset), guestOffset);
    if (probeBytes(head).kind !== 'none') {
      throw new EngineError(
        'request.unsupported',
        `${this.filename}: Its format was guessed to be raw; writing the signature of another format to its first bytes is not allowed.`,
        { file: this.filename, hostOffset: 0, remedy: "Open the image with the format 'raw'." },
      );
    }
  }

  private durable(written: Awaitable<void>, { fua }: WriteOptions): Awaitable<void> {
    return fua === true ? after(written, () => this.storage.flush()) : written;
  }

  private requireWritable(): void {
    if (this.readOnly) {
      throw readOnlyImage(this.filename);
    }
  }
}
