import type { PostPort } from '../../protocol/portTransport';

/** What Worker and MessagePort of `node:worker_threads` have in common. */
interface NodeMessaging {
  postMessage(value: unknown, transferList?: readonly ArrayBuffer[]): void;
  on(event: 'message', listener: (value: unknown) => void): unknown;
  off(event: 'message', listener: (value: unknown) => void): unknown;
}

export function nodePort(messaging: NodeMessaging): PostPort {
  return {
    postMessage: (message, transfer) => messaging.postMessage(message, transfer),
    onMessage(listener) {
      messaging.on('message', listener);
      return { dispose: () => void messaging.off('message', listener) };
    },
  };
}
