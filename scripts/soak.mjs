/**
 * `npm run soak`: the random tests over fresh seeds, round after round, for a bounded time. A round that fails names its seed, and the
 * next one goes on; the exit code says whether any failed.
 *
 *   --minutes N    how long to begin new rounds; 10 unless told
 *   --only PATH    only test files whose path contains this
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { NODE, projectEnvironment, ROOT } from './run/paths.mjs';
import { run } from './run/processes.mjs';
import { command, say } from './run/say.mjs';
import { build } from './setup/build.mjs';
import { installDependencies } from './setup/dependencies.mjs';
import { installSystemTools } from './setup/systemTools.mjs';

const MINUTE = 60_000;

await command(async () => {
  const { values: options } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, only: { type: 'string', default: '' } } });
  await installDependencies(say);
  await installSystemTools({ oracles: true, browser: false, guest: false }, say);
  await build({ tests: false });
  const files = await randomTests(options.only);
  const end = Date.now() + Number(options.minutes) * MINUTE;
  const failed = [];
  let rounds = 0;
  do {
    // The seeds of the cases of a round follow one another.
    const seed = (Date.now() % 2 ** 24) * 64;
    say(`CHAINSCOPE_SEED=${seed}`);
    const { code } = await run(NODE, ['node_modules/vitest/vitest.mjs', 'run', '--project=unit', '--project=interop', ...files], {
      env: { ...projectEnvironment(), CHAINSCOPE_SEED: String(seed) },
      timeout: 20 * MINUTE,
    });
    rounds++;
    if (code !== 0) {
      failed.push(seed);
    }
  } while (Date.now() < end);
  say(`${rounds} rounds, ${failed.length} failed${failed.map((seed) => ` CHAINSCOPE_SEED=${seed}`).join('')}`);
  process.exitCode = failed.length === 0 ? 0 : 1;
});

/**
 * The test files that ask for a seed.
 *
 * @param {string} only
 */
async function randomTests(only) {
  const found = [];
  for (const suite of ['test/unit', 'test/interop']) {
    for (const name of await readdir(join(ROOT, suite), { recursive: true })) {
      const file = `${suite}/${name}`;
      if (name.endsWith('.test.ts') && file.includes(only) && (await readFile(join(ROOT, file), 'utf8')).includes('testSeed()')) {
        found.push(file);
      }
    }
  }
  return found;
}
