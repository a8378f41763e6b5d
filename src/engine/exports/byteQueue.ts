/** Bytes as they come from a socket, taken out in the pieces that a protocol is made of. */
export class ByteQueue {
  private readonly chunks: Buffer[] = [];
  private bytes = 0;
  private waiting: { readonly length: number; readonly resolve: (bytes: Buffer | null) => void } | null = null;
  private ended = false;

  get length(): number {
    return this.bytes;
  }

  push(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    this.settle();
  }

  /** Nothing more comes. */
  end(): void {
    this.ended = true;
    this.settle();
  }

  /** The next `length` bytes when they are there; null when the stream ends before. One caller at a time. */
  read(length: number): Promise<Buffer | null> {
    return new Promise((resolve) => {
      this.waiting = { length, resolve };
      this.settle();
    });
  }

  /** All bytes that are there. */
  takeAll(): Buffer {
    return this.take(this.bytes);
  }

  private settle(): void {
    const { waiting } = this;
    if (waiting && (this.bytes >= waiting.length || this.ended)) {
      this.waiting = null;
      waiting.resolve(this.bytes >= waiting.length ? this.take(waiting.length) : null);
    }
  }

  private take(length: number): Buffer {
    const first = this.chunks[0];
    this.bytes -= length;
    if (first && first.length > length) {
      this.chunks[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const whole = this.chunks.length === 1 ? first! : Buffer.concat(this.chunks);
    this.chunks.length = 0;
    if (whole.length > length) {
      this.chunks.push(whole.subarray(length));
    }
    return whole.subarray(0, length);
  }
}
