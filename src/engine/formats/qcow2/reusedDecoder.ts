import * as zlib from 'node:zlib';

/*
 * Node's synchronous decoders make a new context and a new output for every call, which takes longer than to decode a cluster of zstd. The
 * object beneath a stream can be used again and again; npm's own minizlib does the same. It is no part of Node's interface, so whoever asks
 * for a decoder must be able to do without.
 */

/** What is beneath one of Node's decompressing streams. */
interface Beneath {
  readonly _handle: {
    /** Told of broken input. */
    onerror: (message: string, errno: number, code: string) => void;
    reset(): void;
    writeSync(flush: number, input: Uint8Array, at: number, length: number, output: Uint8Array, outputAt: number, room: number): void;
  };
  /** Left after a write: room in the output, and bytes of the input. */
  readonly _writeState: Uint32Array;
}

function isBeneath(stream: object): stream is Beneath {
  const { _handle: handle, _writeState: state } = stream as Partial<Beneath>;
  return (
    state instanceof Uint32Array &&
    typeof handle === 'object' &&
    typeof Reflect.get(handle, 'reset') === 'function' &&
    typeof Reflect.get(handle, 'writeSync') === 'function'
  );
}

/** Decodes one stream after the other into the same memory. */
export class ReusedDecoder {
  readonly room: number;
  private readonly beneath: Beneath;
  private readonly flush: number;
  private readonly output: Uint8Array;
  /** Inputs that were broken. */
  private failures = 0;

  private constructor(beneath: Beneath, flush: number, room: number) {
    this.beneath = beneath;
    this.flush = flush;
    this.room = room;
    this.output = new Uint8Array(room);
    beneath._handle.onerror = () => {
      this.failures++;
    };
  }

  /**
   * Null where this Node has nothing like that.
   * @param room bytes of output; decoding ends when it is full
   */
  static make(compression: 'zlib' | 'zstd', room: number, windowBits: number): ReusedDecoder | null {
    const { createZstdDecompress } = zlib as Partial<typeof zlib>;
    const stream: object | undefined = compression === 'zlib' ? zlib.createInflateRaw({ windowBits }) : createZstdDecompress?.();
    const { Z_SYNC_FLUSH, ZSTD_e_end } = zlib.constants;
    return stream && isBeneath(stream) ? new ReusedDecoder(stream, compression === 'zlib' ? Z_SYNC_FLUSH : ZSTD_e_end, room) : null;
  }

  /** What the input decodes to, as far as there is room, valid until the next call; null when it is broken. */
  decode(input: Uint8Array): Uint8Array | null {
    const length = this.decodeInto(this.output, input);
    return length < 0 ? null : this.output.subarray(0, length);
  }

  /** Decodes as much as the target has room for. Returns how many bytes that is, -1 when the input is broken. */
  decodeInto(target: Uint8Array, input: Uint8Array): number {
    const { _handle: handle, _writeState: state } = this.beneath;
    const before = this.failures;
    handle.reset();
    handle.writeSync(this.flush, input, 0, input.length, target, 0, target.length);
    return this.failures > before ? -1 : target.length - state[0]!;
  }
}
