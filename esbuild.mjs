/**
 * Builds everything that runs into dist/.
 *
 *   node esbuild.mjs             what is shipped (minified) and the test bundles
 *   node esbuild.mjs --product   only what is shipped; the test bundles stay as they are
 *   node esbuild.mjs --watch     not minified, rebuilt on every change
 */
import { chmod, glob, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import esbuild from 'esbuild';
import { commonJsChunks } from './scripts/build/commonJsChunks.mjs';
import { lazyBuiltins } from './scripts/build/lazyBuiltins.mjs';
import { watForEsbuild } from './scripts/build/wat.mjs';

const { values: options } = parseArgs({
  options: { product: { type: 'boolean', default: false }, watch: { type: 'boolean', default: false } },
});

/** Loaded at run time, when first needed, from the node_modules beside dist/. */
const NATIVE = ['koffi'];

/** A bundle that awaits at its top level, with what the engine's code expects of a CommonJS one. */
const MODULE = /** @type {const} */ ({
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  banner: {
    js: "import { createRequire as bundleRequire } from 'node:module'; const require = bundleRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;",
  },
});

/** Used by test bundles from the project's own node_modules. */
const TEST_TOOLS = ['mocha', 'playwright-core', 'axe-core'];

/** @satisfies {import('esbuild').BuildOptions} */
const common = {
  bundle: true,
  sourcemap: true,
  minify: !options.watch,
  legalComments: 'none',
  logLevel: 'warning',
  plugins: [watForEsbuild()],
};

/** @satisfies {import('esbuild').BuildOptions} */
const node = {
  ...common,
  // Names stay in stack traces as they are. `keepNames` would do it for shorter ones too, but with a call for each function that is made,
  // which on hot paths, where closures come and go, doubles the time.
  minify: false,
  minifyWhitespace: !options.watch,
  minifySyntax: !options.watch,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external: ['vscode', ...NATIVE],
  plugins: [...common.plugins, lazyBuiltins()],
};

/** @type {{ entryPoints: Record<string, string>, outdir: string, settings: import('esbuild').BuildOptions }[]} */
const bundles = [
  {
    outdir: 'dist',
    entryPoints: { extension: 'src/extension.ts' },
    // Read each time that a window opens, and nothing is hot there: it is small, and names stay whatever they cost.
    settings: { ...node, minify: !options.watch, keepNames: true },
  },
  {
    outdir: 'dist',
    entryPoints: {
      worker: 'src/worker/main.ts',
      sample: 'src/sample/main.ts',
      remoteThread: 'src/engine/io/remote/remoteThread.ts',
      decodeThread: 'src/engine/manage/copy/decodeThread.ts',
    },
    settings: node,
  },
  {
    outdir: 'dist',
    entryPoints: { cli: 'src/cli/main.ts' },
    settings: { ...node, chunkNames: 'cli-[name]-[hash]', plugins: [...node.plugins, commonJsChunks()] },
  },
  {
    outdir: 'dist/webview',
    entryPoints: { main: 'webview/main.ts' },
    // Nothing is hot enough there: names stay in stack traces, whatever they cost.
    settings: { ...common, keepNames: true, platform: 'browser', format: 'esm', target: 'chrome130' },
  },
];

if (!options.product) {
  const settings = {
    ...node,
    target: 'node22',
    minifyWhitespace: false,
    minifySyntax: false,
    external: [...node.external, ...TEST_TOOLS],
    plugins: [...common.plugins, scriptsStayOutside()],
  };
  bundles.push(
    { outdir: 'dist/test/host', entryPoints: { index: 'test/host/index.ts', ...(await testFiles('test/host')) }, settings },
    {
      outdir: 'dist/test/e2e',
      entryPoints: { index: 'test/e2e/index.ts', screenshots: 'test/e2e/screenshots.ts', ...(await testFiles('test/e2e')) },
      settings,
    },
    {
      outdir: 'dist/test/bench',
      entryPoints: { main: 'test/bench/main.ts', engineProcess: 'test/interop/engineProcess.ts' },
      settings: { ...settings, ...MODULE },
    },
  );
}

/**
 * @param {string} folder
 * @returns {Promise<Record<string, string>>} entry points by their path under the output folder
 */
async function testFiles(folder) {
  /** @type {Record<string, string>} */
  const entries = {};
  for await (const file of glob(`${folder}/**/*.test.ts`)) {
    entries[file.slice(folder.length + 1, -'.ts'.length)] = file;
  }
  return entries;
}

/**
 * Tests use the project's scripts where they lie, since these find the project by their own place.
 *
 * @returns {import('esbuild').Plugin}
 */
function scriptsStayOutside() {
  return {
    name: 'scripts-stay-outside',
    setup(build) {
      build.onResolve({ filter: /\/scripts\/.*\.mjs$/ }, ({ path, resolveDir }) => ({ path: resolve(resolveDir, path), external: true }));
    },
  };
}

/**
 * A test that was renamed must not go on running from its old bundle.
 *
 * @param {Set<string>} outputs
 */
async function removeStale(outputs) {
  for await (const file of glob('dist/**/*.{js,mjs,map,css}')) {
    const path = file.replaceAll('\\', '/');
    if (!outputs.has(path.replace(/\.map$/, '')) && !(options.product && path.startsWith('dist/test/'))) {
      await rm(file);
    }
  }
}

const builds = bundles.map(({ settings, ...bundle }) => ({ ...settings, ...bundle, metafile: true }));

if (options.watch) {
  const contexts = await Promise.all(builds.map((settings) => esbuild.context({ ...settings, logLevel: 'info' })));
  await Promise.all(contexts.map((context) => context.watch()));
} else {
  // esbuild has said what is wrong by the time that a build is rejected.
  const results = await Promise.allSettled(builds.map((settings) => esbuild.build(settings)));
  const built = results.filter((result) => result.status === 'fulfilled');
  if (built.length < results.length) {
    process.exit(1);
  }
  await removeStale(new Set(built.flatMap(({ value }) => Object.keys(value.metafile?.outputs ?? {}))));
  await chmod('dist/cli.js', 0o755);
}
