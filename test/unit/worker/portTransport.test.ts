import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { createMessageConnection, RequestType, type MessageConnection } from 'vscode-jsonrpc/node';
import { afterEach, describe, expect, it } from 'vitest';

import { PortReader, PortWriter, wholeBuffers } from '../../../src/protocol/portTransport';
import { nodePort } from '../../../src/worker/client/nodePort';

const bytesOf = new RequestType<{ readonly length: number }, { readonly bytes: Uint8Array; readonly note: string }, void>('bytes');
const unpostable = new RequestType<null, unknown, void>('unpostable');

const opened: { readonly port: MessagePort; readonly connection: MessageConnection }[] = [];

function connectionOn(port: MessagePort, transferResults: boolean): MessageConnection {
  const posting = nodePort(port);
  const connection = createMessageConnection(new PortReader(posting), new PortWriter(posting, { transferResults }));
  opened.push({ port, connection });
  return connection;
}

function pair(): { readonly client: MessageConnection; readonly server: MessageConnection } {
  const { port1, port2 } = new MessageChannel();
  const client = connectionOn(port1, false);
  const server = connectionOn(port2, true);
  client.listen();
  return { client, server };
}

afterEach(() => {
  for (const { port, connection } of opened.splice(0)) {
    connection.dispose();
    port.close();
  }
});

describe('messages over a port', () => {
  it('carry typed arrays, and move those of results', async () => {
    const { client, server } = pair();
    const kept: Uint8Array[] = [];
    server.onRequest(bytesOf, ({ length }) => {
      const bytes = new Uint8Array(length).fill(7);
      kept.push(bytes);
      return { bytes, note: 'new' };
    });
    server.listen();
    expect(await client.sendRequest(bytesOf, { length: 3 })).toEqual({ bytes: Uint8Array.of(7, 7, 7), note: 'new' });
    expect(kept[0]?.byteLength).toBe(0);
  });

  it('leave alone what is a part of something larger', async () => {
    const { client, server } = pair();
    const whole = Uint8Array.of(1, 2, 3, 4);
    server.onRequest(bytesOf, () => ({ bytes: whole.subarray(1, 3), note: '' }));
    server.listen();
    expect((await client.sendRequest(bytesOf, { length: 2 })).bytes).toEqual(Uint8Array.of(2, 3));
    expect(whole).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  it('turn a result that cannot be posted into an error', async () => {
    const { client, server } = pair();
    server.onRequest(unpostable, () => ({ call: () => 1 }));
    server.listen();
    await expect(client.sendRequest(unpostable, null)).rejects.toThrow(/could not be cloned/);
  });

  it('report what is no message', async () => {
    const { port1, port2 } = new MessageChannel();
    const connection = connectionOn(port1, false);
    opened.push({ port: port2, connection });
    const error = new Promise<Error>((resolve) => connection.onError(([reason]) => resolve(reason)));
    connection.listen();
    port2.postMessage('hello');
    expect((await error).message).toBe('Something that is no JSON-RPC message came through the port.');
  });
});

describe('the buffers of a result', () => {
  it('are found in records, each once, however views share them', () => {
    const shared = new ArrayBuffer(8);
    const own = new Uint8Array(4);
    const value = { a: own, b: { c: new Uint16Array(shared), d: new Uint8Array(shared) }, e: new Uint8Array(shared, 2), f: [own], g: null };
    expect(wholeBuffers(value)).toEqual([own.buffer, shared]);
  });

  it('are not those of pools', () => {
    expect(wholeBuffers({ bytes: Buffer.from('pooled') })).toEqual([]);
  });
});
