import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { watForVite } from './scripts/build/wat.mjs';

export default defineConfig({
  plugins: [watForVite()],
  test: {
    pool: 'forks',
    // Most of the time goes to waiting for the tools that are compared with.
    maxWorkers: Math.max(2, availableParallelism()),
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000 },
      },
      {
        // Against the real qemu tools: a case starts several processes and writes real images.
        extends: true,
        test: { name: 'interop', include: ['test/interop/**/*.test.ts'], testTimeout: 180_000, hookTimeout: 180_000 },
      },
      {
        // A real Linux on an emulated machine whose disk is ours: ten seconds a boot.
        extends: true,
        test: { name: 'guest', include: ['test/guest/**/*.test.ts'], testTimeout: 300_000, hookTimeout: 180_000, fileParallelism: false },
      },
    ],
  },
});
