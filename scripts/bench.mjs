/** `npm run bench`: builds, runs the benchmarks against the real tools, and writes docs/benchmarks.md. Arguments go to test/bench/main.ts. */
import { NODE, ROOT } from './run/paths.mjs';
import { run } from './run/processes.mjs';
import { command, say } from './run/say.mjs';
import { build } from './setup/build.mjs';
import { installDependencies } from './setup/dependencies.mjs';
import { installGuest } from './setup/guest.mjs';
import { installSystemTools } from './setup/systemTools.mjs';

await command(async () => {
  await installDependencies(say);
  await installSystemTools({ oracles: true, browser: true, guest: true }, say);
  await installGuest(say);
  say('Building');
  await build({ tests: true });
  const { code } = await run(NODE, ['--enable-source-maps', 'dist/test/bench/main.mjs', ...process.argv.slice(2)], { cwd: ROOT });
  process.exitCode = code;
});
