import { after, isPromise, type Awaitable } from '../../awaitable';
import type { BlockNode, NodeStatus, Preallocation, WriteOptions, ZeroOptions } from '../../block/blockNode';
import { EngineError, invalidRequest, readOnlyImage, unsupportedRequest } from '../../errors';
import { loading } from '../../io/loading';
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
  private readonly inFlight = new Set<Promise<unknown>>();
  private closed = false;

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
  }

  get size(): number {
    return rawVirtualSize(this.storage.size);
  }

  read(guestOffset: number, target: Uint8Array): Awaitable<void> {
    this.requireInside(guestOffset, target.length);
    return this.tracked(
      after(
        loading(() => this.storage.read(target, guestOffset)),
        (count) => {
          // The rest of the last sector.
          target.fill(0, count);
        },
      ),
    );
  }

  willRead(guestOffset: number, length: number): void {
    this.storage.willRead?.(guestOffset, length);
  }

  write(guestOffset: number, bytes: Uint8Array, options: WriteOptions = {}): Awaitable<void> {
    this.requireInside(guestOffset, bytes.length);
    this.requireWritable();
    if (!this.probed || guestOffset >= PROBE_BYTES || bytes.length === 0) {
      return this.tracked(this.durable(this.storage.write(bytes, guestOffset), options));
    }
    const written = after(
      loading(() => this.requireStillRaw(guestOffset, bytes)),
      () => this.storage.write(bytes, guestOffset),
    );
    return this.tracked(this.durable(written, options));
  }

  writeZeroes(guestOffset: number, length: number, options: ZeroOptions = {}): Awaitable<void> {
    this.requireInside(guestOffset, length);
    this.requireWritable();
    return this.tracked(this.durable(this.storage.writeZeroes(guestOffset, length, { unmap: options.mayUnmap === true }), options));
  }

  discard(guestOffset: number, length: number): Awaitable<void> {
    this.requireInside(guestOffset, length);
    this.requireWritable();
    return this.tracked(this.storage.discard(guestOffset, length));
  }

  async flush(): Promise<void> {
    if (!this.readOnly) {
      await this.tracked(this.storage.flush());
    }
  }

  blockStatus(guestOffset: number, length: number): Awaitable<NodeStatus> {
    this.requireInside(guestOffset, Math.max(1, length));
    return loading((): NodeStatus => {
      if (guestOffset >= this.storage.size) {
        return { class: 'zero', length, hostOffset: null };
      }
      const extent = this.storage.extentAt(guestOffset);
      return { class: extent.data ? 'data' : 'zero', length: Math.min(length, extent.length), hostOffset: guestOffset };
    });
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
    await this.tracked(this.storage.truncate(size, preallocation));
  }

  async close(): Promise<void> {
    if (this.closed) {
      return;
    }
    this.closed = true;
    await Promise.allSettled(this.inFlight);
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

  private requireInside(guestOffset: number, length: number): void {
    if (!(guestOffset >= 0 && length >= 0 && guestOffset + length <= this.size)) {
      throw invalidRequest(`${length} bytes at guest offset ${guestOffset} reach past the end of the disk of ${this.size} bytes.`);
    }
    if (this.closed) {
      throw invalidRequest(`${this.filename} is closed.`);
    }
  }

  private tracked<T>(request: Awaitable<T>): Awaitable<T> {
    if (isPromise(request)) {
      this.inFlight.add(request);
      const done = () => this.inFlight.delete(request);
      request.then(done, done);
    }
    return request;
  }
}
