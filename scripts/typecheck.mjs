/** Type-checks each part against what its own world offers: Node and VS Code, the webview's page, the page that end-to-end tests drive. */
import { existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const projects = ['tsconfig.json', 'webview/tsconfig.json', 'test/unit/webview/tsconfig.json', 'test/e2e/tsconfig.json'];

let failed = false;
for (const project of projects.filter((file) => existsSync(`${root}/${file}`))) {
  const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '-p', project], { cwd: root, stdio: 'inherit' });
  failed ||= tsc.status !== 0;
}
process.exit(failed ? 1 : 0);
