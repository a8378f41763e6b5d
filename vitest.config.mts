import { defineConfig } from 'vitest/config';
import { watForVite } from './scripts/build/wat.mjs';

export default defineConfig({
  plugins: [watForVite()],
  test: {
    pool: 'forks',
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
    ],
  },
});
