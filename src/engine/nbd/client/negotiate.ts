import type * as net from 'node:net';

import { cancelled, EngineError, networkFailed } from '../../errors';
import { ByteQueue } from '../../exports/byteQueue';
import type { NbdAddress } from '../../io/remote/address';
import { SYSTEM_CLOCK, type JobClock } from '../../jobs/clock';
import { ConnectionLost, ProtocolViolation } from './failures';
import { Negotiation, Refused } from './negotiation';
import { connectSocket, encrypt, type NbdTls } from './socket';

export interface NegotiateOptions {
  readonly tls?: NbdTls | undefined;
  /** Milliseconds until what is negotiated must be agreed on; 10 s when left out. */
  readonly connectTimeoutMs?: number | undefined;
  readonly clock?: JobClock | undefined;
  /** Ends the opening. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Connects to a server, goes over to TLS where the address says so, and hands the connection over; it is closed when `agree` fails.
 * @throws ConnectionLost, ProtocolViolation, Refused; EngineError `cancelled`
 */
export async function negotiate<T>(
  address: Pick<NbdAddress, 'socket' | 'tls'>,
  options: NegotiateOptions,
  agree: (negotiation: Negotiation, socket: net.Socket, input: ByteQueue) => Promise<T>,
): Promise<T> {
  const { clock = SYSTEM_CLOCK, connectTimeoutMs = 10_000, tls = {}, signal } = options;
  const late = new AbortController();
  const stop = clock.after(connectTimeoutMs, () => late.abort());
  const either = signal ? AbortSignal.any([signal, late.signal]) : late.signal;
  let socket: net.Socket | null = null;
  const abort = () => socket?.destroy();
  either.addEventListener('abort', abort, { once: true });
  try {
    socket = await connectSocket(address.socket, { signal: either });
    let input = queueOf(socket);
    let negotiation = new Negotiation(input, socket);
    await negotiation.greet();
    if (address.tls) {
      await negotiation.startTls();
      socket.removeAllListeners('data');
      socket = await encrypt(socket, address.socket.type === 'inet' ? address.socket.host : null, tls);
      input = queueOf(socket);
      negotiation = new Negotiation(input, socket);
    }
    return await agree(negotiation, socket, input);
  } catch (error) {
    socket?.destroy();
    if (signal?.aborted) {
      throw cancelled();
    }
    throw late.signal.aborted ? new ConnectionLost(`The server did not answer within ${connectTimeoutMs / 1000} s.`) : error;
  } finally {
    stop();
    either.removeEventListener('abort', abort);
  }
}

function queueOf(socket: net.Socket): ByteQueue {
  const queue = new ByteQueue();
  socket.on('data', (chunk: Buffer) => queue.push(chunk));
  // Whatever ended it, what follows is that nothing comes.
  socket.on('error', () => queue.end());
  socket.on('close', () => queue.end());
  socket.on('end', () => queue.end());
  return queue;
}

/** What a person is told when `negotiate` failed; what is no failure of the server's or the way to it is thrown on. */
export function openingFailure(name: string, error: unknown): EngineError {
  if (error instanceof EngineError) {
    return error;
  }
  const known = error instanceof ConnectionLost || error instanceof ProtocolViolation || error instanceof Refused;
  if (!known) {
    throw error;
  }
  return networkFailed(name, error.message.replace(/\.?$/, '.'), error);
}
