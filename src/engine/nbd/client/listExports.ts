import { type NbdAddress, remoteFilename } from '../../io/remote/address';
import { INFO, OPTION } from '../protocol';
import { negotiate, openingFailure, type NegotiateOptions } from './negotiate';
import type { Description } from './negotiation';

/** An export as its server lists and describes it. */
export interface ListedExport extends Description {
  readonly name: string;
  readonly description: string;
  /** Names of the metadata contexts; empty where the server tells none. */
  readonly contexts: readonly string[];
}

/** What a server offers. @throws EngineError `network.failed`, `cancelled` */
export async function listExports(
  server: Pick<NbdAddress, 'socket' | 'tls'>,
  options: NegotiateOptions = {},
): Promise<readonly ListedExport[]> {
  try {
    return await negotiate(server, options, async (negotiation, socket) => {
      const structured = await negotiation.askForStructuredReplies();
      const listed: ListedExport[] = [];
      for (const { name, description } of await negotiation.list()) {
        const told = await negotiation.describe(OPTION.info, name, [INFO.name, INFO.description, INFO.blockSize]);
        const contexts = structured ? await negotiation.listContexts(name) : [];
        listed.push({ size: 0, flags: 0, blocks: null, ...told, name, description, contexts });
      }
      negotiation.abort();
      socket.end();
      return listed;
    });
  } catch (error) {
    throw openingFailure(remoteFilename({ protocol: 'nbd', exportName: '', ...server }), error);
  }
}
