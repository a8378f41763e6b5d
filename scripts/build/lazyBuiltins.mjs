/** What Node has loaded before a program begins. */
const LOADED = new Set(['node:events', 'node:fs', 'node:path']);

/**
 * Lets Node's own modules be loaded when something of theirs is first used: a command that meets no server need not wait for TLS and HTTP.
 * An import becomes an object whose properties load the module when they are read.
 *
 * @returns {import('esbuild').Plugin}
 */
export function lazyBuiltins() {
  const namespace = 'lazy-builtin';
  return {
    name: namespace,
    setup(build) {
      build.onResolve({ filter: /^node:/ }, ({ path, ...importing }) =>
        LOADED.has(path) || importing.namespace === namespace ? null : { path, namespace },
      );
      build.onLoad({ filter: /./, namespace }, ({ path }) => {
        const names = Object.keys(process.getBuiltinModule(path) ?? {});
        const getters = names.map((name) => `get ${name}() { return (loaded ??= require('${path}')).${name}; }`);
        return { contents: `let loaded;\nmodule.exports = {\n${getters.join(',\n')}\n};` };
      });
    },
  };
}
