import { readFile } from 'node:fs/promises';
import wabt from 'wabt';

/** What the kernels may use; everything VS Code's oldest supported Node has. */
const FEATURES = { simd: true, threads: true, bulk_memory: true };

/**
 * Compiles WebAssembly text to a validated module.
 *
 * @param {string} path
 * @returns {Promise<Uint8Array>}
 * @throws {Error} naming line and column where the text is wrong
 */
export async function compileWat(path) {
  const [tools, text] = await Promise.all([wabt(), readFile(path, 'utf8')]);
  const parsed = tools.parseWat(path, text, FEATURES);
  try {
    // Its types leave out that validation takes the features too.
    /** @type {{ validate(features: object): void }} */ (parsed).validate(FEATURES);
    return parsed.toBinary({ write_debug_names: false }).buffer;
  } finally {
    parsed.destroy();
  }
}

/**
 * `import kernel from './scan.wat'` gives the compiled module's bytes as a Uint8Array.
 *
 * @returns {import('esbuild').Plugin}
 */
export function watForEsbuild() {
  return {
    name: 'wat',
    setup(build) {
      build.onLoad({ filter: /\.wat$/ }, async ({ path }) => ({ contents: await compileWat(path), loader: 'binary', watchFiles: [path] }));
    },
  };
}

/**
 * The same for vitest.
 *
 * @returns {import('vite').Plugin}
 */
export function watForVite() {
  return {
    name: 'wat',
    enforce: 'pre',
    async load(id) {
      const [path = id] = id.split('?');
      if (!path.endsWith('.wat')) {
        return null;
      }
      const base64 = Buffer.from(await compileWat(path)).toString('base64');
      return `export default new Uint8Array(Buffer.from('${base64}', 'base64'));`;
    },
  };
}
