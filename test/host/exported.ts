import assert from 'node:assert/strict';

import type { ExportInfo } from '../../src/protocol/exports';
import { api } from './extension';

/** How long something may take to be told, in milliseconds. */
const PATIENCE = 20_000;

/** Waits until the one export is told to be so. A client that has gone is told of a moment later, and until then stopping asks. */
export async function exported(isSo: (info: ExportInfo) => boolean): Promise<ExportInfo> {
  const { exports } = await api();
  const deadline = AbortSignal.timeout(PATIENCE);
  for (;;) {
    const [info] = exports.exports;
    assert.ok(info, 'It is exported');
    if (isSo(info)) {
      return info;
    }
    assert.ok(!deadline.aborted, `Not told in ${PATIENCE} ms, only: ${JSON.stringify(info)}`);
    await new Promise<void>((resolve) => {
      const listener = exports.onDidChangeTreeData(() => {
        listener.dispose();
        resolve();
      });
      deadline.addEventListener('abort', () => resolve(), { once: true });
    });
  }
}
