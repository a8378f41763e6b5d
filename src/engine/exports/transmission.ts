import type { Duplex } from 'node:stream';

import { isPromise, type Awaitable } from '../awaitable';
import { COMMAND, MAX_PAYLOAD, REQUEST_LENGTH, REQUEST_MAGIC } from '../nbd/protocol';
import { Commands, type Traffic } from './commands';
import { DiskWatch } from './diskWatch';
import type { Agreed } from './handshake';
import { Replies } from './replies';
import { readRequest, refusal, type Request } from './request';

/** Replies that may wait for a client that does not read; then nothing more is read from it. */
const BACK_PRESSURE = 512 * 1024;
/** Requests that one client may have in flight. */
const MAX_IN_FLIGHT = 256;
/** Bytes that they may move: beyond that they wait, whatever their number. */
const MAX_BYTES_IN_FLIGHT = 2 * MAX_PAYLOAD;

/**
 * The server's side of the transmission phase for one client. All requests of a received chunk are worked on at once and answered with one
 * write; what has to wait is answered when it is done, in any order, as the protocol allows. A client that breaks the protocol is
 * disconnected.
 */
export class Transmission {
  private readonly socket: Duplex;
  private readonly agreed: Agreed;
  private readonly replies: Replies;
  private readonly commands: Commands;
  private readonly disk = new DiskWatch();
  private readonly traffic: Traffic;
  private readonly onEnd: () => void;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  /** Bytes that must be there before there is anything to do. */
  private wanted = REQUEST_LENGTH;
  private inFlight = 0;
  private bytesInFlight = 0;
  private requests = 0;
  private ending = false;
  private ended = false;
  private working = false;

  /** @param onEnd called once, when the client has gone and nothing is in flight any more */
  constructor(socket: Duplex, agreed: Agreed, traffic: Traffic, onEnd: () => void) {
    this.socket = socket;
    this.agreed = agreed;
    this.replies = new Replies(socket, agreed.structuredReplies);
    this.commands = new Commands(agreed, this.replies, traffic);
    this.traffic = traffic;
    this.onEnd = onEnd;
    socket.on('drain', () => this.go());
  }

  /** What came from the client. */
  receive(chunk: Buffer): void {
    if (this.ending) {
      return;
    }
    this.pending.push(chunk);
    this.pendingBytes += chunk.length;
    this.go();
  }

  /** Takes no more requests; those in flight are finished and answered. */
  finish(): void {
    this.ending = true;
    this.pending = [];
    this.settle();
  }

  private go(): void {
    if (this.working || this.ending) {
      return;
    }
    this.working = true;
    while (this.pendingBytes >= this.wanted && !this.isStopped()) {
      const { requests } = this;
      const bytes = this.moved;
      this.disk.begin();
      this.work();
      this.disk.end(this.requests - requests, this.moved - bytes);
    }
    this.working = false;
    this.replies.send();
    if (this.isBusy()) {
      this.socket.pause();
    } else {
      this.socket.resume();
    }
    this.settle();
  }

  /** Bytes that were asked for so far, and bytes that were sent. */
  private get moved(): number {
    return this.traffic.bytesRead + this.traffic.bytesWritten;
  }

  private isStopped(): boolean {
    return this.ending || this.isBusy();
  }

  private isBusy(): boolean {
    return this.socket.writableLength > BACK_PRESSURE || this.inFlight >= MAX_IN_FLIGHT || this.bytesInFlight >= MAX_BYTES_IN_FLIGHT;
  }

  /** Works through what has come, as far as it makes whole requests. */
  private work(): void {
    const input = this.pending.length === 1 ? this.pending[0]! : Buffer.concat(this.pending);
    let at = 0;
    if (this.disk.waits) {
      this.announceReads(input);
    }
    this.wanted = REQUEST_LENGTH;
    while (at + REQUEST_LENGTH <= input.length && !this.isStopped()) {
      if (input.readUInt32BE(at) !== REQUEST_MAGIC) {
        this.giveUp();
        return;
      }
      const request = readRequest(input, at);
      let payload: Buffer | null = null;
      if (request.type === COMMAND.write) {
        if (request.length > MAX_PAYLOAD) {
          // What follows cannot be told from data.
          this.giveUp();
          return;
        }
        if (at + REQUEST_LENGTH + request.length > input.length) {
          this.wanted = REQUEST_LENGTH + request.length;
          break;
        }
        payload = input.subarray(at + REQUEST_LENGTH, at + REQUEST_LENGTH + request.length);
        at += request.length;
      }
      at += REQUEST_LENGTH;
      if (request.type === COMMAND.disconnect) {
        this.ending = true;
        break;
      }
      this.perform(request, payload);
    }
    this.pending = at < input.length ? [at === 0 ? input : input.subarray(at)] : [];
    this.pendingBytes = input.length - at;
  }

  /** Lets the disk fetch at the same time what the reads that came together will ask for one by one. */
  private announceReads(input: Buffer): void {
    const { node } = this.agreed.offered;
    for (let at = 0; at + REQUEST_LENGTH <= input.length && input.readUInt32BE(at) === REQUEST_MAGIC; at += REQUEST_LENGTH) {
      const { type, offset, length } = readRequest(input, at);
      if (type !== COMMAND.read) {
        return;
      }
      if (offset + length <= node.size) {
        node.willRead?.(offset, length);
      }
    }
  }

  /** The client cannot be understood any more. */
  private giveUp(): void {
    this.ending = true;
    this.pending = [];
    this.socket.destroy();
  }

  private perform(request: Request, payload: Buffer | null): void {
    this.requests++;
    const error = refusal(request, this.agreed);
    if (error !== null) {
      this.replies.fail(request, error, 'The request is not valid for this export.');
      return;
    }
    let result: Awaitable<void>;
    try {
      result = this.commands.perform(request, payload);
    } catch (error) {
      this.replies.failWith(request, error);
      return;
    }
    if (isPromise(result)) {
      const bytes = bytesMoved(request);
      this.inFlight++;
      this.bytesInFlight += bytes;
      result
        .catch((error: unknown) => this.replies.failWith(request, error))
        .finally(() => {
          this.inFlight--;
          this.bytesInFlight -= bytes;
          this.replies.send();
          this.go();
          this.settle();
        })
        // Only `failWith` could throw there, on a socket that is gone.
        .catch(() => this.socket.destroy());
    }
  }

  private settle(): void {
    if (this.ending && this.inFlight === 0 && !this.ended) {
      this.ended = true;
      this.replies.send();
      this.onEnd();
    }
  }
}

/** What a request holds memory for until it is answered. */
function bytesMoved({ type, length }: Request): number {
  return type === COMMAND.read || type === COMMAND.write || type === COMMAND.cache ? length : 0;
}
