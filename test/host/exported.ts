import assert from 'node:assert/strict';

import type { ExportInfo } from '../../src/protocol/exports';
import { api } from './extension';
import { until } from './waiting';

/** Waits until the one export is told to be so. A client that has gone is told of a moment later, and until then stopping asks. */
export async function exported(isSo: (info: ExportInfo) => boolean): Promise<ExportInfo> {
  const { exports } = await api();
  return until(
    () => {
      const [info] = exports.exports;
      assert.ok(info, 'It is exported');
      return isSo(info) ? info : undefined;
    },
    exports.onDidChangeTreeData,
    () => `Only told: ${JSON.stringify(exports.exports)}`,
  );
}
