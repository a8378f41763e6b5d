import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { watForVite } from './scripts/build/wat.mjs';

const MINUTE = 60_000;

export default defineConfig({
  plugins: [watForVite()],
  test: {
    pool: 'forks',
    // Most of the time goes to waiting for the tools that are compared with.
    maxWorkers: Math.max(2, availableParallelism()),
    // A limit ends what hangs. A machine that is ten times slower, and stands still for seconds, reaches none.
    testTimeout: 10 * MINUTE,
    hookTimeout: 5 * MINUTE,
    expect: { poll: { timeout: 2 * MINUTE } },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'] },
      },
      {
        // Against the real qemu tools: a case starts several processes and writes real images.
        extends: true,
        test: { name: 'interop', include: ['test/interop/**/*.test.ts'], setupFiles: ['test/interop/endKept.ts'] },
      },
      {
        // A real Linux on an emulated machine whose disk is ours: ten seconds a boot.
        extends: true,
        test: {
          name: 'guest',
          include: ['test/guest/**/*.test.ts'],
          setupFiles: ['test/interop/endKept.ts'],
          testTimeout: 30 * MINUTE,
          fileParallelism: false,
        },
      },
    ],
  },
});
