import type { Writable } from 'node:stream';

/** One buffer's worth of replies is sent at a time: two long reads as programs that copy make them, with their headers. */
const ARENA_BYTES = 2 * 256 * 1024 + 4096;
/** Buffers that are kept for the next replies, of whichever connection: what the processor has seen lately is fast. */
const SPARE_ARENAS = 16;

/** A buffer for replies. */
interface Block {
  readonly bytes: Buffer;
  /** Where data was read into, one after the other, when it was filled the last time: requests are much alike, and a view is an object. */
  readonly views: Buffer[];
}

const NO_BLOCK = newBlock(0);
const spare: Block[] = [];

/**
 * Where replies are put together: many small ones go out with one write, and data is read straight into its place behind its header.
 * Buffers are used again once the socket has taken them.
 */
export class ReplyArena {
  private readonly socket: Writable;
  private block = NO_BLOCK;
  private used = 0;
  private viewsUsed = 0;

  constructor(socket: Writable) {
    this.socket = socket;
  }

  /** Where the offsets that `take` gives count from, until it is called again. */
  get bytes(): Buffer {
    return this.block.bytes;
  }

  /** Room for the next reply, behind those before it: its offset in `bytes`. To be filled before the next call of anything here. */
  take(length: number): number {
    if (this.used + length > this.block.bytes.length) {
      this.send();
      this.block = length > ARENA_BYTES ? newBlock(length) : (spare.pop() ?? newBlock(ARENA_BYTES));
    }
    const start = this.used;
    this.used += length;
    return start;
  }

  /** The last `length` bytes that `take` gave. */
  end(length: number): Buffer {
    const start = this.used - length;
    const { bytes, views } = this.block;
    const before = views[this.viewsUsed];
    const view = before?.byteOffset === start && before.length === length ? before : bytes.subarray(start, this.used);
    views[this.viewsUsed++] = view;
    return view;
  }

  /** Takes back what the last `take` gave, and `end` of it. */
  giveBack(length: number): void {
    this.used -= length;
    this.viewsUsed--;
  }

  /** Leaves the place that the last `take` gave to whoever fills it later and sends it himself; what came before it is sent. */
  detach(length: number): Buffer {
    const { bytes } = this.block;
    const { used } = this;
    this.reset();
    if (used > length) {
      this.socket.write(bytes.subarray(0, used - length));
    }
    return bytes.subarray(used - length, used);
  }

  /** Hands everything to the socket. */
  send(): void {
    const { block, used } = this;
    if (used === 0) {
      return;
    }
    this.reset();
    let kept = false;
    // The stream calls back after `write` has returned, never from inside of it.
    this.socket.write(block.bytes.subarray(0, used), () => {
      if (!kept) {
        keep(block);
      }
    });
    if (this.socket.writableLength === 0) {
      // The system has all of it already: the next replies go where the processor's cache is warm.
      kept = true;
      keep(block);
    }
  }

  private reset(): void {
    this.block = NO_BLOCK;
    this.used = 0;
    this.viewsUsed = 0;
  }
}

/** For the next replies of whichever connection: what was used last is used first. */
function keep(block: Block): void {
  if (spare.length < SPARE_ARENAS && block.bytes.length === ARENA_BYTES) {
    spare.push(block);
  }
}

function newBlock(length: number): Block {
  // A buffer of its own: views tell where they begin by the offset in it.
  return { bytes: Buffer.allocUnsafeSlow(length), views: [] };
}
