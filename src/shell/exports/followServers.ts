import type { ExportInfo } from '../../protocol/exports';
import type { EngineClient } from '../../worker/client';
import type { ChainView } from '../chains/chainView';
import type { Disposable } from '../lifecycle';

/** Lets the view *Chains* show of each chain that is served when a server of it goes out of reach, and when it is back. */
export function followServers(engine: Pick<EngineClient, 'onDidChangeExports'>, view: Pick<ChainView, 'reread'>): Disposable {
  let before = new Map<string, string>();
  return engine.onDidChangeExports((exports) => {
    const now = new Map(exports.map((info) => [info.path, statesOf(info)]));
    const changed = [...now].filter(([path, states]) => (before.get(path) ?? '') !== states).map(([path]) => path);
    before = now;
    if (changed.length > 0) {
      // The model has logged what failed.
      view.reread(changed).catch(() => undefined);
    }
  });
}

function statesOf({ unreachable }: ExportInfo): string {
  return unreachable.map(({ name, state }) => `${name} ${state}`).join('\n');
}
