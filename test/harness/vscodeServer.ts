import { join } from 'node:path';
import { RESULTS, ROOT, temporaryFolder } from '../../scripts/run/paths.mjs';
import { serveVsCode } from '../../scripts/vscode/server.mjs';

/** A VS Code that serves windows with the extension in it, and remembers nothing of earlier runs. */
export interface TestServer {
  /** The page that shows `folder`. */
  address(folder: string): string;
  stop(): Promise<void>;
}

export interface TestServerOptions {
  /** The extension under development; Chainscope unless told. */
  readonly extension?: string;
  /** Whether every workspace is trusted. Otherwise each opens in real restricted mode until a window grants trust. */
  readonly trusted?: boolean;
  /** User settings. */
  readonly settings?: Record<string, unknown>;
  /** Name of the log among the test results. */
  readonly log?: string;
}

export async function startTestServer({
  extension = ROOT,
  trusted = true,
  settings,
  log = 'e2e-server',
}: TestServerOptions = {}): Promise<TestServer> {
  const server = await serveVsCode({
    extension,
    data: await temporaryFolder('server'),
    trustAll: trusted,
    settings: {
      'security.workspace.trust.startupPrompt': 'never',
      // Nothing moves while a screenshot is taken or a click aimed.
      'workbench.reduceMotion': 'on',
      'window.commandCenter': false,
      'workbench.editor.useModal': 'off',
      ...settings,
    },
    log: join(RESULTS, `${log}.log`),
  });
  return { address: (folder) => server.address(folder), stop: () => server.stop() };
}
