/**
 * Runs the tests of test/host inside VS Code through test-electron: in a downloaded desktop VS Code where that can be had and shown, else in
 * the served one.
 */
import { join } from 'node:path';
import { runTests } from '@vscode/test-electron';
import { RESULTS, ROOT, temporaryFolder } from '../run/paths.mjs';
import { say } from '../run/say.mjs';
import { writeSampleImages } from '../setup/sample.mjs';
import { servedVsCode } from '../vscode/cache.mjs';
import { downloadedVsCode } from '../vscode/desktop.mjs';

const downloaded = await downloadedVsCode(say);
if (downloaded === undefined) {
  await servedVsCode(say);
}
// The tests may change what is in the workspace.
const workspace = join(await temporaryFolder('host-workspace'), 'sample');
await writeSampleImages(workspace);
try {
  await runTests({
    vscodeExecutablePath: downloaded ?? join(ROOT, 'scripts', 'vscode', 'executable.mjs'),
    extensionDevelopmentPath: ROOT,
    extensionTestsPath: join(ROOT, 'dist', 'test', 'host', 'index.js'),
    extensionTestsEnv: { CHAINSCOPE_TEST_RESULTS: RESULTS },
    launchArgs: [workspace, '--disable-extensions'],
  });
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
