import { defineConfig, globalIgnores } from 'eslint/config';
import globals from 'globals';
import tseslint from 'typescript-eslint';

/**
 * Folders that a file may not reach by a relative path. The layers are: shell -> protocol <- worker -> engine; webview -> protocol;
 * cli -> engine.
 *
 * @param {string[]} folders
 * @param {string} message
 */
function away(folders, message) {
  return { regex: String.raw`(^|/)\.\./(${folders.join('|')})(/|$)`, message };
}

/**
 * @param {string[]} modules regular expressions of module names
 * @param {string} message
 */
function modules(modules, message) {
  return { regex: `^(${modules.join('|')})$`, message };
}

const VSCODE = modules(['vscode'], 'Only the shell knows VS Code.');
const TOOLKIT = modules([String.raw`@vscode/webview-ui-toolkit(/.*)?`], 'The toolkit is imported in webview/toolkit.ts alone.');
const JSONRPC = modules([String.raw`vscode-jsonrpc(/.*)?`], 'Only the ends of a port know how its messages travel.');
const FILES = modules(['(node:)?fs(/promises)?'], 'Files are read in src/engine/io, where holes, locks and bounds are known.');
const NODE = modules(
  ['node:.*', 'fs', 'path', 'os', 'util', 'events', 'crypto', 'zlib', 'worker_threads'],
  'This also runs where there is no Node.',
);
const NETWORK = modules(
  ['node:(https?|http2|net|tls|dgram|dns)(/promises)?', 'https?', 'http2', 'net', 'tls', 'dgram', 'dns', 'undici'],
  'No network address is contacted from here.',
);

/**
 * A rule per layer; each file falls under one of them, since a later entry replaces an earlier one's options.
 *
 * @param {object} layer
 * @param {string[]} layer.files
 * @param {string[]} [layer.ignores]
 * @param {({ regex: string, message: string, allowTypeImports?: boolean })[]} layer.refuse
 * @returns {import('eslint').Linter.Config}
 */
function layer({ files, ignores = [], refuse }) {
  return { files, ignores, rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns: [TOOLKIT, ...refuse] }] } };
}

export default defineConfig(
  globalIgnores(['dist/', 'node_modules/', 'test-results/', '.vscode-test/', '.sample/', '.guest/']),
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      curly: 'error',
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-exports': [
        'error',
        { restrictDefaultExports: { direct: true, named: true, defaultFrom: true, namedFrom: true, namespaceFrom: true } },
      ],
      'prefer-const': 'error',
      'func-style': ['error', 'declaration', { allowArrowFunctions: true }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/naming-convention': [
        'error',
        { selector: 'typeLike', format: ['PascalCase'] },
        { selector: 'interface', format: ['PascalCase'], custom: { regex: '^I[A-Z][a-z]', match: false } },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      // A typed array's element inside its bounds is a number; `!` says so without a branch in a hot loop.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // Plain counting loops over typed arrays read better, and run faster, with their index.
      '@typescript-eslint/prefer-for-of': 'off',
      // An endless `while (true)` with a return inside is the clearest form of "until".
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: 'only-allowed-literals' }],
    },
  },

  // The layers.
  layer({
    files: ['src/engine/**'],
    ignores: ['src/engine/io/**', 'src/engine/sample/**', 'src/engine/exports/**', 'src/engine/nbd/**'],
    refuse: [
      VSCODE,
      JSONRPC,
      FILES,
      NETWORK,
      away(['shell', 'worker', 'cli', 'sample', 'webview'], 'The engine knows none of its faces.'),
      protocolTypes(),
    ],
  }),
  layer({
    // Exports are for clients of other programs, and those of others are read; they are reached over sockets.
    files: ['src/engine/exports/**', 'src/engine/nbd/**'],
    refuse: [
      VSCODE,
      JSONRPC,
      FILES,
      away(['shell', 'worker', 'cli', 'sample', 'webview'], 'The engine knows none of its faces.'),
      protocolTypes(),
    ],
  }),
  layer({
    files: ['src/engine/io/**', 'src/engine/sample/**'],
    refuse: [
      VSCODE,
      JSONRPC,
      away(['shell', 'worker', 'cli', 'sample', 'webview'], 'The engine knows none of its faces.'),
      protocolTypes(),
    ],
  }),
  layer({
    files: ['src/protocol/**'],
    refuse: [
      VSCODE,
      NODE,
      away(
        ['engine', 'shell', 'worker', 'cli', 'sample', 'webview'],
        'The protocol declares what crosses a port and depends on neither side.',
      ),
    ],
  }),
  layer({
    files: ['src/worker/**'],
    ignores: ['src/worker/client*', 'src/worker/client/**'],
    refuse: [VSCODE, FILES, NETWORK, away(['shell', 'cli', 'sample', 'webview'], 'The worker knows the engine and the protocol.')],
  }),
  layer({
    files: ['src/worker/client*', 'src/worker/client/**'],
    refuse: [
      VSCODE,
      FILES,
      NETWORK,
      away(['engine', 'shell', 'cli', 'sample', 'webview'], 'The client runs in the shell, where the engine is not loaded.'),
      {
        regex: String.raw`^\.{1,2}/(main|session)`,
        message: 'The client runs in the shell, where the engine is not loaded.',
        allowTypeImports: true,
      },
    ],
  }),
  layer({
    files: ['src/shell/**', 'src/extension.ts'],
    refuse: [
      FILES,
      NETWORK,
      { regex: String.raw`(^|/)(engine|cli|sample)/`, message: 'The shell asks the worker through the protocol.' },
      { regex: String.raw`(^|/)worker/(?!client)`, message: 'Of the worker the shell knows the client.' },
      away(['webview'], 'The webview is another process; the protocol is between.'),
    ],
  }),
  layer({
    files: ['src/cli/**'],
    refuse: [
      VSCODE,
      JSONRPC,
      NETWORK,
      away(['shell', 'worker', 'sample', 'webview'], 'The command line stands on the engine alone.'),
      protocolTypes(),
    ],
  }),
  layer({
    files: ['src/sample/**'],
    refuse: [VSCODE, JSONRPC, NETWORK, away(['shell', 'worker', 'cli', 'webview'], 'The sample is written by the engine.')],
  }),
  layer({
    files: ['webview/**'],
    refuse: [VSCODE, NODE, NETWORK, { regex: String.raw`/src/(?!protocol/)`, message: 'The webview knows the protocol only.' }],
  }),
  { files: ['webview/toolkit.ts'], rules: { '@typescript-eslint/no-restricted-imports': 'off' } },
  layer({
    files: ['test/unit/**', 'test/interop/**', 'test/bench/**', 'test/fixtures/**', 'test/e2e/**', 'test/harness/**'],
    refuse: [VSCODE],
  }),
  layer({ files: ['test/host/**'], refuse: [] }),

  // What prints.
  {
    files: ['src/cli/**', 'src/sample/main.ts', 'test/bench/**', 'test/harness/**', 'test/e2e/screenshots.ts', 'scripts/**', '*.mjs'],
    rules: { 'no-console': 'off' },
  },

  {
    files: ['test/**'],
    rules: {
      // mocha and vitest give `it` an async function's promise; a test that awaits nothing is still one.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['**/*.mjs'],
    languageOptions: { globals: globals.node },
    rules: {
      '@typescript-eslint/explicit-module-boundary-types': 'off',
      '@typescript-eslint/use-unknown-in-catch-callback-variable': 'off',
    },
  },
  {
    // These tools read a default export.
    files: ['eslint.config.mjs', 'vitest.config.mts', 'src/wat.d.ts'],
    rules: { 'no-restricted-exports': 'off' },
  },
);

/** A value that the protocol declares may be produced here; nothing of it is called. */
function protocolTypes() {
  return { regex: String.raw`(^|/)\.\./protocol/`, message: 'Only types of the protocol.', allowTypeImports: true };
}
