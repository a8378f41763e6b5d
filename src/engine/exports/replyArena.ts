import type { Writable } from 'node:stream';

/** One buffer's worth of replies is sent at a time: two long reads as programs that copy make them, with their headers. */
const ARENA_BYTES = 2 * 256 * 1024 + 4096;
/** Buffers that are kept for the next replies, of whichever connection: what the processor has seen lately is fast. */
const SPARE_ARENAS = 16;
const spare: Buffer[] = [];

/**
 * Where replies are put together: many small ones go out with one write, and data is read straight into its place behind its header.
 * Buffers are used again once the socket has taken them.
 */
export class ReplyArena {
  private readonly socket: Writable;
  private current: Buffer | null = null;
  private used = 0;

  constructor(socket: Writable) {
    this.socket = socket;
  }

  /** Room for the next reply, behind those before it; to be filled before the next call of anything here. */
  take(length: number): Buffer {
    if (this.current && this.used + length > this.current.length) {
      this.send();
    }
    if (length > ARENA_BYTES) {
      this.current = Buffer.allocUnsafe(length);
      this.used = 0;
    }
    this.current ??= spare.pop() ?? Buffer.allocUnsafeSlow(ARENA_BYTES);
    const start = this.used;
    this.used += length;
    return this.current.subarray(start, this.used);
  }

  /** Takes back the end of what the last `take` gave. */
  giveBack(length: number): void {
    this.used -= length;
  }

  /** Leaves the place that the last `take` gave to whoever fills it later and sends it himself; what came before it is sent. */
  detach(length: number): void {
    const { current, used } = this;
    this.current = null;
    this.used = 0;
    if (current && used > length) {
      this.socket.write(current.subarray(0, used - length));
    }
  }

  /** Hands everything to the socket. */
  send(): void {
    const { current, used } = this;
    if (!current || used === 0) {
      return;
    }
    this.current = null;
    this.used = 0;
    this.socket.write(current.subarray(0, used), () => {
      if (spare.length < SPARE_ARENAS && current.length === ARENA_BYTES) {
        spare.push(current);
      }
    });
  }
}
