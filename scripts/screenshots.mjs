/** `npm run screenshots`: pictures of the real window. Arguments go to test/e2e/screenshots.ts. */
import { NODE } from './run/paths.mjs';
import { run } from './run/processes.mjs';
import { command, say } from './run/say.mjs';
import { build } from './setup/build.mjs';
import { installDependencies } from './setup/dependencies.mjs';
import { installSystemTools } from './setup/systemTools.mjs';

await command(async () => {
  await installDependencies(say);
  await installSystemTools({ oracles: false, browser: true, guest: false }, say);
  say('Building');
  await build({ tests: true });
  const { code } = await run(NODE, ['--enable-source-maps', 'dist/test/e2e/screenshots.js', ...process.argv.slice(2)]);
  process.exitCode = code;
});
