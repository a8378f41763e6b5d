import { once } from 'node:events';
import * as net from 'node:net';
import * as tls from 'node:tls';
import type { Duplex } from 'node:stream';

import { EngineError, errnoOf, invalidRequest } from '../errors';
import { ByteQueue } from './byteQueue';
import { Handshake } from './handshake';
import type { NbdExport } from './nbdExport';
import type { Traffic } from './commands';
import { Transmission } from './transmission';

/** Where a server listens. */
export type NbdAddress =
  | { readonly kind: 'unix'; readonly path: string }
  /** Port 0 takes a free one. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

export interface NbdServerOptions {
  readonly exports: readonly NbdExport[];
  readonly address: NbdAddress;
  /** A host other than this machine's own may connect only when this is set: the protocol asks nobody who he is. */
  readonly allowRemote?: boolean | undefined;
  /** Clients that are served at a time, others wait; 0 is no limit. */
  readonly maxClients?: number | undefined;
  /** Only clients with TLS are served. */
  readonly tls?: tls.SecureContextOptions | undefined;
  /** Clients must show a certificate that the `ca` has signed. */
  readonly verifyClients?: boolean | undefined;
  /** How long a client may take until it has chosen an export, in milliseconds. */
  readonly handshakeTimeoutMs?: number | undefined;
  /** How long a client that is done may take to accept its last replies, in milliseconds. */
  readonly closeTimeoutMs?: number | undefined;
}

/** A connected client. */
export interface NbdClientInfo {
  readonly id: number;
  /** Empty until it has chosen one. */
  readonly exportName: string | null;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 5000;
const MOST_CLIENTS = 100;
/** Clients that may wait for their turn; who comes later is turned away. */
const MOST_WAITING = 100;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

interface Connection {
  readonly id: number;
  readonly socket: net.Socket;
  readonly traffic: Traffic;
  exportName: string | null;
  transmission: Transmission | null;
  /** Nothing of it is in flight any more. */
  done: boolean;
}

/** Serves disks to NBD clients, several at a time. One that misbehaves loses its own connection and nothing else. */
export class NbdServer {
  private readonly options: NbdServerOptions;
  private readonly server: net.Server;
  private readonly connections = new Map<number, Connection>();
  private readonly waiting = new Set<net.Socket>();
  private readonly listeners = new Set<() => void>();
  /** Of clients that are gone. */
  private readonly past: Traffic = { bytesRead: 0, bytesWritten: 0 };
  private nextId = 1;

  private constructor(options: NbdServerOptions) {
    this.options = options;
    this.server = net.createServer({ noDelay: true }, (socket) => this.accept(socket));
  }

  /**
   * Begins to listen.
   * @throws EngineError `request.invalid` for an address beyond this machine without leave; `network.failed` when it cannot be had
   */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    const { address } = options;
    if (address.kind === 'tcp' && !LOOPBACK.test(address.host) && options.allowRemote !== true) {
      throw invalidRequest(
        `An export on ${address.host} could be reached, and changed, from other machines; that has to be allowed first.`,
      );
    }
    const server = new NbdServer(options);
    try {
      const listening = once(server.server, 'listening');
      server.server.listen(address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port });
      await listening;
    } catch (cause) {
      const where = address.kind === 'unix' ? address.path : `${address.host}:${address.port}`;
      throw new EngineError('network.failed', `Failed to listen on ${where}: ${errnoOf(cause) ?? String(cause)}`, {}, cause);
    }
    return server;
  }

  /** The port that was taken; null for a Unix socket. */
  get port(): number | null {
    const address = this.server.address();
    return address !== null && typeof address === 'object' ? address.port : null;
  }

  get clients(): readonly NbdClientInfo[] {
    return [...this.connections.values()].map(({ id, exportName, traffic }) => ({ id, exportName, ...traffic }));
  }

  /** Of all clients since the start, also of those that are gone. */
  get traffic(): Readonly<Traffic> {
    const total = { ...this.past };
    for (const { traffic } of this.connections.values()) {
      total.bytesRead += traffic.bytesRead;
      total.bytesWritten += traffic.bytesWritten;
    }
    return total;
  }

  /** Calls back when a client has come, has chosen its export, or has gone. */
  onDidChangeClients(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Takes no more clients and no more requests; ends when what is in flight has been answered and everybody is gone. Who does not take his
   * answers is not waited for.
   */
  async close(): Promise<void> {
    if (!this.server.listening) {
      return;
    }
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.waiting) {
      socket.destroy();
    }
    for (const { socket, transmission } of this.connections.values()) {
      if (transmission) {
        transmission.finish();
      } else {
        socket.destroy();
      }
    }
    await closed;
    while (this.connections.size > 0) {
      await new Promise<void>((resolve) => {
        const stop = this.onDidChangeClients(() => {
          stop();
          resolve();
        });
      });
    }
  }

  private accept(socket: net.Socket): void {
    socket.on('error', () => socket.destroy());
    if (!this.isFull) {
      this.admit(socket);
    } else if (this.waiting.size < MOST_WAITING) {
      this.waiting.add(socket);
      socket.once('close', () => this.waiting.delete(socket));
    } else {
      socket.destroy();
    }
  }

  private get isFull(): boolean {
    const { maxClients = MOST_CLIENTS } = this.options;
    return maxClients > 0 && this.connections.size >= maxClients;
  }

  private admit(socket: net.Socket): void {
    const connection: Connection = {
      socket,
      id: this.nextId++,
      traffic: { bytesRead: 0, bytesWritten: 0 },
      exportName: null,
      transmission: null,
      done: false,
    };
    this.connections.set(connection.id, connection);
    socket.once('close', () => {
      connection.transmission?.finish();
      if (!connection.transmission || connection.done) {
        this.forget(connection);
      }
    });
    this.tell();
    this.serve(connection).catch(() => socket.destroy());
  }

  private async serve(connection: Connection): Promise<void> {
    const { socket } = connection;
    const timeout = setTimeout(() => socket.destroy(), this.options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS);
    timeout.unref();
    try {
      const plain = await this.haggle(socket, this.options.tls !== undefined, false);
      if (plain.agreed === 'startTls') {
        const secured = await this.secure(socket);
        const { agreed, stream, input } = await this.haggle(secured, false, true);
        this.transmit(connection, agreed, stream, input);
      } else {
        this.transmit(connection, plain.agreed, plain.stream, plain.input);
      }
    } finally {
      clearTimeout(timeout);
    }
  }

  private async haggle(stream: Duplex, tlsRequired: boolean, greeted: boolean) {
    const input = new ByteQueue();
    const receive = (chunk: Buffer) => input.push(chunk);
    const end = () => input.end();
    stream.on('data', receive);
    stream.once('end', end);
    stream.once('close', end);
    const agreed = await new Handshake(input, stream, { exports: this.options.exports, tlsRequired }).run(greeted);
    stream.off('data', receive);
    return { agreed, stream, input };
  }

  private async secure(socket: net.Socket): Promise<tls.TLSSocket> {
    const secured = new tls.TLSSocket(socket, {
      isServer: true,
      secureContext: tls.createSecureContext(this.options.tls),
      requestCert: this.options.verifyClients === true,
      rejectUnauthorized: this.options.verifyClients === true,
    });
    secured.on('error', () => socket.destroy());
    await once(secured, 'secure');
    return secured;
  }

  private transmit(connection: Connection, agreed: Awaited<ReturnType<Handshake['run']>>, stream: Duplex, input: ByteQueue): void {
    const { socket } = connection;
    if (typeof agreed === 'string' || socket.destroyed) {
      socket.end();
      // A client that does not hang up is hung up on.
      socket.destroySoon();
      return;
    }
    connection.exportName = agreed.offered.name;
    const transmission = new Transmission(stream, agreed, connection.traffic, () => {
      connection.done = true;
      stream.end();
      this.release(connection);
    });
    connection.transmission = transmission;
    stream.on('data', (chunk: Buffer) => transmission.receive(chunk));
    stream.on('end', () => transmission.finish());
    this.tell();
    const first = input.takeAll();
    if (first.length > 0) {
      transmission.receive(first);
    }
    stream.resume();
  }

  /** Until its last replies are taken, a client counts as one. */
  private release(connection: Connection): void {
    const { socket } = connection;
    if (socket.destroyed) {
      this.forget(connection);
      return;
    }
    const late = setTimeout(() => socket.destroy(), this.options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS);
    socket.once('close', () => clearTimeout(late));
    socket.destroySoon();
  }

  private forget(connection: Connection): void {
    if (!this.connections.delete(connection.id)) {
      return;
    }
    this.past.bytesRead += connection.traffic.bytesRead;
    this.past.bytesWritten += connection.traffic.bytesWritten;
    this.tell();
    const [next] = this.waiting;
    if (next && !this.isFull && this.server.listening) {
      this.waiting.delete(next);
      this.admit(next);
    }
  }

  private tell(): void {
    for (const listener of [...this.listeners]) {
      listener();
    }
  }
}
