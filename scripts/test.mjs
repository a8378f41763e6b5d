/**
 * `npm test`: installs what is missing, checks the sources, builds, and runs every suite. The last line is `N passed, N failed` over all.
 *
 *   --only a,b     only these: format, lint, types, build, unit, interop, guest, host, e2e
 *   --grep TEXT    in the suites, only tests whose title contains this
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { NODE, projectEnvironment, RESULTS } from './run/paths.mjs';
import { run } from './run/processes.mjs';
import { say } from './run/say.mjs';
import { requireNode } from './setup/build.mjs';
import { installDependencies } from './setup/dependencies.mjs';
import { installGuest } from './setup/guest.mjs';
import { installSystemTools } from './setup/systemTools.mjs';
import { judge, mochaCounts, vitestCounts } from './suites/results.mjs';

const MINUTE = 60_000;

/**
 * @typedef {object} Stage
 * @property {string[]} command run by the project's Node
 * @property {number} limit milliseconds
 * @property {(file: string) => Promise<{ passed: number, failed: number, skipped: number }>} [counts] reads what the suite left; a stage
 *   without one is a single check
 * @property {boolean} [built] runs what the build made
 * @property {boolean} [oracles] needs the real tools
 * @property {boolean} [browser] needs Chromium
 * @property {boolean} [guest] needs an emulator and a small Linux for it
 */

/** @type {Record<string, Stage>} */
const STAGES = {
  format: { command: ['node_modules/prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'], limit: 15 * MINUTE },
  lint: { command: ['node_modules/eslint/bin/eslint.js', '--max-warnings=0', '.'], limit: 15 * MINUTE },
  types: { command: ['scripts/typecheck.mjs'], limit: 15 * MINUTE },
  build: { command: ['esbuild.mjs'], limit: 15 * MINUTE },
  unit: { command: vitest('unit'), limit: 30 * MINUTE, counts: vitestCounts },
  interop: { command: vitest('interop'), limit: 60 * MINUTE, counts: vitestCounts, built: true, oracles: true },
  guest: { command: vitest('guest'), limit: 30 * MINUTE, counts: vitestCounts, built: true, oracles: true, guest: true },
  host: { command: ['scripts/suites/host.mjs'], limit: 30 * MINUTE, counts: mochaCounts, built: true, browser: true, oracles: true },
  e2e: {
    command: ['--enable-source-maps', 'dist/test/e2e/index.js'],
    limit: 60 * MINUTE,
    counts: mochaCounts,
    built: true,
    browser: true,
    oracles: true,
  },
};

/** @param {string} project */
function vitest(project) {
  const results = join(RESULTS, `${project}.json`);
  return [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--project',
    project,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${results}`,
  ];
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
}

async function main() {
  const { values: options } = parseArgs({ options: { only: { type: 'string' }, grep: { type: 'string' } } });
  const chosen = choose(options.only);
  requireNode();
  await installDependencies(say);
  const need = (/** @type {'oracles' | 'browser' | 'guest'} */ what) => chosen.some(([, stage]) => stage[what] === true);
  await installSystemTools({ oracles: need('oracles'), browser: need('browser'), guest: need('guest') }, say);
  if (need('guest')) {
    await installGuest(say);
  }
  await rm(RESULTS, { recursive: true, force: true });
  await mkdir(RESULTS, { recursive: true });

  /** @type {{ name: string, passed: number, failed: number, problems: string[], seconds: number }[]} */
  const results = [];
  for (const [name, stage] of chosen) {
    console.log(`\n> ${name}`);
    const started = Date.now();
    const unbuilt = stage.built === true && results.some((earlier) => earlier.name === 'build' && earlier.failed > 0);
    const result = unbuilt
      ? { passed: 0, failed: 1, problems: ['not run, since the build failed'] }
      : await runStage(name, stage, options.grep);
    results.push({ name, ...result, seconds: (Date.now() - started) / 1000 });
  }

  console.log('');
  for (const { name, passed, failed, problems, seconds } of results) {
    const why = problems.length > 0 ? ` (${problems.join('; ')})` : '';
    console.log(
      `${name.padEnd(8)} ${String(passed).padStart(6)} passed ${String(failed).padStart(4)} failed ${seconds.toFixed(1).padStart(7)} s${why}`,
    );
  }
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  const failed = results.reduce((sum, result) => sum + result.failed, 0);
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

/**
 * @param {string | undefined} only
 * @returns {[string, Stage][]} in their order; the suites that run from bundles bring the build with them
 */
function choose(only) {
  if (only === undefined) {
    return Object.entries(STAGES);
  }
  const names = only.split(',');
  const unknown = names.filter((name) => !(name in STAGES));
  if (unknown.length > 0) {
    throw new Error(`There is no ${unknown.join(', ')}. Choose from: ${Object.keys(STAGES).join(', ')}`);
  }
  const needsBuild = names.some((name) => STAGES[name]?.built === true);
  return Object.entries(STAGES).filter(([name]) => names.includes(name) || (name === 'build' && needsBuild));
}

/**
 * @param {string} name
 * @param {Stage} stage
 * @param {string | undefined} grep
 * @returns {Promise<import('./suites/results.mjs').SuiteResult>}
 */
async function runStage(name, { command, limit, counts }, grep) {
  const isVitest = counts === vitestCounts;
  const ended = await run(NODE, [...command, ...(isVitest && grep !== undefined ? ['-t', grep] : [])], {
    env: {
      ...projectEnvironment(),
      ...(grep === undefined ? {} : { CHAINSCOPE_TEST_ONLY: grep }),
      ...(process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}),
    },
    timeout: limit,
  });
  if (counts === undefined) {
    const ok = ended.code === 0;
    return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, problems: ok ? [] : [`exit code ${ended.code}`] };
  }
  const found = await counts(join(RESULTS, `${name}.json`));
  // What --grep leaves out was left out on purpose.
  return judge(grep === undefined ? found : { ...found, skipped: 0 }, ended);
}
