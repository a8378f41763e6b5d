import { mkdir, writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { transform } from 'esbuild';

/**
 * Splits a CommonJS build along its dynamic imports. esbuild splits modules only, so the build makes modules, and these become CommonJS
 * one by one. For a program that starts, works and ends, `require` costs less than Node's loader of modules, and what is called from
 * another file is a plain constant here, where esbuild's own CommonJS has a getter in between, which loops feel.
 *
 * @returns {import('esbuild').Plugin}
 */
export function commonJsChunks() {
  return {
    name: 'common-js-chunks',
    setup(build) {
      const { minifyWhitespace = false, sourcemap = false, target = 'esnext' } = build.initialOptions;
      // Statements on lines of their own can be told from everything else; and the second step finds the map of the first in its input.
      const first = { format: 'esm', splitting: true, write: false, minifyWhitespace: false, sourcemap: sourcemap && 'inline' };
      Object.assign(build.initialOptions, first);
      /** @param {import('esbuild').OutputFile} file */
      async function write({ path, text }) {
        const { code, map } = await transform(commonJs(text), {
          sourcefile: basename(path),
          sourcemap: sourcemap && 'external',
          minifyWhitespace,
          target,
        });
        await mkdir(dirname(path), { recursive: true });
        if (sourcemap) {
          await writeFile(`${path}.map`, map);
        }
        await writeFile(path, sourcemap ? `${code}//# sourceMappingURL=${basename(path)}.map\n` : code);
      }
      build.onEnd(async ({ outputFiles = [] }) => {
        // Names of parts tell their contents; the entries, which lead to them, come when all are there.
        const entries = new Set(Object.keys(build.initialOptions.entryPoints ?? {}));
        const isEntry = (/** @type {import('esbuild').OutputFile} */ { path }) => entries.has(basename(path, '.js'));
        await Promise.all(outputFiles.filter((file) => !isEntry(file)).map(write));
        await Promise.all(outputFiles.filter(isEntry).map(write));
      });
    },
  };
}

/**
 * The same lines with `require` and `exports`. It is enough that each file is complete before those that import it go on: files that
 * esbuild splits off do not import each other in circles.
 *
 * @param {string} text a module as esbuild writes it
 * @throws {Error} for an import or export in a form that is not known here
 */
function commonJs(text) {
  const code = text
    .replace(
      /^import \{([^}]*)\} from ("[^"\n]+");$/gm,
      (_, /** @type {string} */ names, /** @type {string} */ file) => `const {${renamed(names)}} = require(${file});`,
    )
    .replace(/^import (?:\* as )?([\w$]+) from ("[^"\n]+");$/gm, 'const $1 = require($2);')
    .replace(/^import ("[^"\n]+");$/gm, 'require($1);')
    .replace(/^export \{([^}]*)\};$/gm, (_, /** @type {string} */ names) => `module.exports = {${exported(names)}};`)
    .replace(/\bimport\(("\.\/[^"\n]+")\)/g, 'Promise.resolve().then(() => require($1))')
    .replace(/^(#!.*\n)?/, '$1"use strict";');
  const left = /^(?:import|export)\b.*|\bimport\(.*/m.exec(code);
  if (left) {
    throw new Error(`An import or export that cannot be made CommonJS: ${left[0]}`);
  }
  return code;
}

/** @param {string} names `a, b as c` of an import, with line ends */
function renamed(names) {
  return names.replace(/ as /g, ': ');
}

/** @param {string} names `a, b as c` of an export, with line ends */
function exported(names) {
  return names.replace(/([\w$]+) as ([\w$]+)/g, '$2: $1');
}
