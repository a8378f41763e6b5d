import type { MessageConnection } from 'vscode-jsonrpc';

import type { GateDecision, NamedFile, OpeningGate } from '../engine/gate/gate';
import { askGate } from '../protocol/engine';

/** The worker opens nothing that an image names before the shell, which knows the workspace's trust and the person's grants, said yes. */
export function remoteGate(connection: MessageConnection): OpeningGate {
  return {
    async decide({ image, role, recordedName, path, protocol, address }: NamedFile): Promise<GateDecision> {
      const answer = await connection.sendRequest(askGate, { image, role, recordedName, path, protocol, address });
      if (answer.allowed) {
        return { allowed: true, replacement: answer.replacement };
      }
      return { allowed: false, reason: answer.reason ?? 'outsideWorkspace' };
    },
  };
}
