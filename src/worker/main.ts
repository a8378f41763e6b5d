import { parentPort } from 'node:worker_threads';
import { createMessageConnection } from 'vscode-jsonrpc/node';

import { PortReader, PortWriter } from '../protocol/portTransport';
import { nodePort } from './client/nodePort';
import { EngineService } from './handlers';

/* The engine worker's entry. It ends with its thread; nothing in it outlives that. */

if (!parentPort) {
  throw new Error('This is the entry of a worker thread.');
}
const port = nodePort(parentPort);
const connection = createMessageConnection(new PortReader(port), new PortWriter(port, { transferResults: true }));
new EngineService(connection);
connection.listen();
