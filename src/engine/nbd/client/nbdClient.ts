import type { EngineError } from '../../errors';
import { cancelled, invalidRequest, networkChanged, networkFailed, unsupportedRequest } from '../../errors';
import { remoteFilename, type NbdAddress } from '../../io/remote/address';
import { delayAfter, sleep } from '../../io/remote/backOff';
import type { Connection } from '../../io/remote/rangeFetcher';
import { SYSTEM_CLOCK, type JobClock } from '../../jobs/clock';
import { COMMAND, COMMAND_FLAG, TRANSMISSION_FLAG } from '../protocol';
import { ConnectionLost, nbdFailure } from './failures';
import { negotiate, openingFailure, type NegotiateOptions } from './negotiate';
import { USUAL_CONTEXTS, type ExportInfo } from './negotiation';
import { Transmission, type Descriptor, type Descriptors, type NbdRequest } from './transmission';

export interface NbdClientOptions extends NegotiateOptions {
  /**
   * QEMU's `reconnect-delay`, in milliseconds: when the connection is lost, requests wait that long for another and are then sent again;
   * with 0 they fail. 10 s when left out.
   */
  readonly reconnectDelayMs?: number | undefined;
  /** Metadata contexts to ask for. */
  readonly contexts?: readonly string[] | undefined;
  readonly onConnection?: ((state: Connection) => void) | undefined;
}

/** Requests on the wire at a time. */
const MAX_IN_FLIGHT = 32;
/** A server that closes the connection over a request gets it so many times. */
const MAX_SENDINGS = 5;
const BACK_OFF = { attempts: Infinity, firstMs: 100, mostMs: 2000 };
/** A multiple of every block size that still fits the wire's 32 bits. */
const MAX_EFFECT = 2 ** 31;

/**
 * A client of one NBD export. A lost connection is made again and what was under way is sent once more, as QEMU does; what another program
 * finds there in between, or a server that lost its memory of writes that were not flushed, it cannot know.
 */
export class NbdClient {
  readonly name: string;
  private readonly address: NbdAddress;
  private readonly options: NbdClientOptions;
  private readonly clock: JobClock;
  private readonly closing = new AbortController();
  private transmission: Transmission;
  private reconnecting: Promise<Transmission> | null = null;
  /** Connections lost since the last reply. */
  private losses = 0;
  private inFlight = 0;
  private readonly waiting: (() => void)[] = [];
  private state: Connection = 'online';
  /** Why nothing can be done any more. */
  private broken: EngineError | null = null;

  private constructor(address: NbdAddress, options: NbdClientOptions, transmission: Transmission) {
    this.name = remoteFilename(address);
    this.address = address;
    this.options = options;
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.transmission = transmission;
  }

  /** @throws EngineError `network.failed`, `cancelled` */
  static async open(address: NbdAddress, options: NbdClientOptions = {}): Promise<NbdClient> {
    try {
      return new NbdClient(address, options, await connect(address, options));
    } catch (error) {
      throw openingFailure(remoteFilename(address), error);
    }
  }

  /** As the server told it last; the size never changes. */
  get info(): ExportInfo {
    return this.transmission.info;
  }

  /** Whether the server said `flag` of the export (`TRANSMISSION_FLAG`). */
  can(flag: keyof typeof TRANSMISSION_FLAG): boolean {
    return (this.info.flags & TRANSMISSION_FLAG[flag]) !== 0;
  }

  /* Offsets and lengths of all requests are multiples of `info.minimumBlock`. */

  async read(offset: number, target: Uint8Array): Promise<void> {
    const { read } = COMMAND;
    await this.split(offset, target.length, this.info.maximumBlock, (at, length) =>
      this.perform({ command: read, flags: 0, offset: offset + at, length, target: target.subarray(at, at + length) }, 'Reading'),
    );
  }

  async write(offset: number, bytes: Uint8Array, { fua = false }: { readonly fua?: boolean } = {}): Promise<void> {
    const { write } = COMMAND;
    const flags = this.fuaFlag(fua);
    await this.split(offset, bytes.length, this.info.maximumBlock, (at, length) =>
      this.perform({ command: write, flags, offset: offset + at, length, payload: bytes.subarray(at, at + length) }, 'Writing'),
    );
    await this.flushInstead(fua);
  }

  /**
   * @param options `unmap`: space may be given back; `fast`: fails with `request.unsupported` rather than take as long as writing
   */
  async writeZeroes(
    offset: number,
    length: number,
    options: { readonly unmap?: boolean; readonly fast?: boolean; readonly fua?: boolean } = {},
  ): Promise<void> {
    const { unmap = false, fast = false, fua = false } = options;
    if (!this.can('sendWriteZeroes') || (fast && !this.can('sendFastZero'))) {
      throw unsupportedRequest(`${this.name}: The server does not write zeroes${fast ? ' fast' : ''}.`);
    }
    const flags = this.fuaFlag(fua) | (unmap ? 0 : COMMAND_FLAG.noHole) | (fast ? COMMAND_FLAG.fastZero : 0);
    await this.split(offset, length, this.info.maximumBlock, (at, part) =>
      this.perform({ command: COMMAND.writeZeroes, flags, offset: offset + at, length: part }, 'Zeroing'),
    );
    await this.flushInstead(fua);
  }

  /** Does nothing where the server does not know it. */
  async trim(offset: number, length: number): Promise<void> {
    if (this.can('sendTrim')) {
      await this.split(offset, length, this.info.maximumBlock, (at, part) =>
        this.perform({ command: COMMAND.trim, flags: 0, offset: offset + at, length: part }, 'Discarding'),
      );
    }
  }

  /** A hint that the range is read soon. */
  async cache(offset: number, length: number): Promise<void> {
    if (this.can('sendCache')) {
      await this.split(offset, length, this.info.maximumBlock, (at, part) =>
        this.perform({ command: COMMAND.cache, flags: 0, offset: offset + at, length: part }, 'Caching'),
      );
    }
  }

  async flush(): Promise<void> {
    if (this.can('sendFlush')) {
      await this.perform({ command: COMMAND.flush, flags: 0, offset: 0, length: 0 }, 'Flushing');
    }
  }

  /**
   * What a metadata context says from `offset` on, as far as the server's answer reaches, which may be past the range.
   * @throws EngineError `request.unsupported` when the server does not offer the context
   */
  async blockStatus(context: string, offset: number, length: number): Promise<readonly Descriptor[]> {
    const id = this.info.contexts.get(context);
    if (id === undefined) {
      throw unsupportedRequest(`${this.name}: The server does not tell ${context}.`);
    }
    const part = Math.min(length, MAX_EFFECT);
    const found = await this.perform({ command: COMMAND.blockStatus, flags: 0, offset, length: part }, 'Describing');
    const descriptors = found.get(this.info.contexts.get(context) ?? id);
    if (!descriptors) {
      throw networkFailed(this.name, `The server does not answer what it was asked of ${context}.`);
    }
    return descriptors;
  }

  close(): void {
    this.broken ??= cancelled();
    this.closing.abort();
    this.transmission.close();
  }

  private fuaFlag(fua: boolean): number {
    return fua && this.can('sendFua') ? COMMAND_FLAG.fua : 0;
  }

  /** Without FUA a flush does the same. */
  private async flushInstead(fua: boolean): Promise<void> {
    if (fua && !this.can('sendFua')) {
      await this.flush();
    }
  }

  private async split(offset: number, length: number, most: number, part: (at: number, length: number) => Promise<unknown>): Promise<void> {
    const { minimumBlock, size } = this.info;
    if (offset % minimumBlock !== 0 || length % minimumBlock !== 0 || offset + length > size) {
      throw invalidRequest(`${this.name}: ${length} bytes at offset ${offset} are not whole blocks of ${minimumBlock} bytes inside it.`);
    }
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < length; at += most) {
      parts.push(part(at, Math.min(most, length - at)));
    }
    // All of them: until then the buffer is in use.
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected');
    if (failed) {
      throw failed.reason;
    }
  }

  private async perform(request: NbdRequest, doing: string): Promise<Descriptors> {
    await this.enter();
    try {
      for (let sending = 1; ; sending++) {
        const transmission = await this.connected();
        try {
          const result = await transmission.request(request);
          this.losses = 0;
          return result;
        } catch (error) {
          if (!(error instanceof ConnectionLost) || this.broken || this.reconnectDelay === 0 || sending === MAX_SENDINGS) {
            throw this.broken ?? error;
          }
        }
      }
    } catch (error) {
      throw nbdFailure(this.name, request.length === 0 ? doing : `${doing} ${request.length} bytes at offset ${request.offset}`, error);
    } finally {
      this.leave();
    }
  }

  private async connected(): Promise<Transmission> {
    if (this.broken) {
      throw this.broken;
    }
    if (this.transmission.alive) {
      return this.transmission;
    }
    this.reconnecting ??= this.reconnect().finally(() => {
      this.reconnecting = null;
    });
    return this.reconnecting;
  }

  private async reconnect(): Promise<Transmission> {
    const deadline = this.clock.now() + this.reconnectDelay;
    this.is('retrying');
    for (;;) {
      if (this.losses++ > 0) {
        await sleep(this.clock, delayAfter(this.losses - 1, BACK_OFF), this.closing.signal);
      }
      try {
        const transmission = await connect(this.address, { ...this.options, signal: this.closing.signal });
        this.requireSame(transmission);
        this.transmission = transmission;
        this.is('online');
        return transmission;
      } catch (error) {
        if (this.broken) {
          throw this.broken;
        }
        if (this.clock.now() + delayAfter(this.losses, BACK_OFF) > deadline) {
          this.is('offline');
          throw openingFailure(this.name, error);
        }
      }
    }
  }

  /** @throws EngineError `network.changed` */
  private requireSame(now: Transmission): void {
    const { size, minimumBlock } = this.info;
    const what =
      now.info.size !== size
        ? `it had ${size} bytes and has ${now.info.size}.`
        : now.info.minimumBlock > minimumBlock
          ? `its blocks had ${minimumBlock} bytes and have ${now.info.minimumBlock}.`
          : !this.can('readOnly') && (now.info.flags & TRANSMISSION_FLAG.readOnly) !== 0
            ? 'it is read-only now.'
            : null;
    if (what !== null) {
      now.close();
      this.broken = networkChanged(this.name, what);
      throw this.broken;
    }
  }

  private get reconnectDelay(): number {
    return this.options.reconnectDelayMs ?? 10_000;
  }

  private is(state: Connection): void {
    if (state !== this.state) {
      this.state = state;
      this.options.onConnection?.(state);
    }
  }

  private enter(): Promise<void> | undefined {
    if (this.inFlight < MAX_IN_FLIGHT) {
      this.inFlight++;
      return undefined;
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private leave(): void {
    const next = this.waiting.shift();
    if (next) {
      next();
    } else {
      this.inFlight--;
    }
  }
}

function connect(address: NbdAddress, options: NbdClientOptions): Promise<Transmission> {
  const { contexts = USUAL_CONTEXTS } = options;
  return negotiate(address, options, async (negotiation, socket, input) => {
    return new Transmission(socket, input, await negotiation.go(address.exportName, contexts));
  });
}
