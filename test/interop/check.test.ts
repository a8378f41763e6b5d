import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FindingKind } from '../../src/protocol/check';
import { differences, ourCheck, qemuVerdict } from './checkAgainstQemu';
import { corrupt } from './corruptions';
import { makeImage, type ImageOptions, type RandomImage } from './images';
import { Random, testCases, testSeed } from './random';

const run = promisify(execFile);

/** Damaged copies of each image. */
const COPIES = 3;

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chainscope-check-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Images can be as long as their disk without holding much. */
async function sparseCopy(image: RandomImage, name: string): Promise<{ path: string; qemuArguments: string[] }> {
  const path = join(folder, name);
  await run('cp', ['--sparse=always', image.path, path]);
  return { path, qemuArguments: image.qemuArguments.map((argument) => argument.replaceAll(image.path, path)) };
}

/** What is found in images that no one damaged. */
function isExpected(kind: FindingKind, image: RandomImage): boolean {
  switch (kind) {
    case 'lostData':
    case 'lostTable':
      // A crash leaves clusters behind that were written already, and so does a snapshot that fails half way.
      return image.describe.includes(' abort') || image.describe.includes('# refused');
    case 'doublyUsedData':
      // QEMU 7.2 does this itself: `write -c` of a cluster, `write -z` over it, `write` of another, which gets the same host cluster,
      // then `write -c` once more goes into that cluster and overwrites the data there. (qemu-io reads it back wrong.)
      return image.describe.includes('write -c');
    default:
      return false;
  }
}

async function eachImage(
  seed: number,
  cases: number,
  options: ImageOptions,
  test: (image: RandomImage, context: string) => Promise<void>,
): Promise<void> {
  for (let i = 0; i < cases; i++) {
    const image = await makeImage(seed + i, folder, { maxDepth: 0, ...options });
    await test(image, `CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1\n${image.describe}`);
    await rm(folder, { recursive: true });
    await run('mkdir', [folder]);
  }
}

describe('check agrees with qemu-img check', () => {
  const seed = testSeed();
  const cases = testCases(25);

  it(`on images as the tools leave them, after a crash too (CHAINSCOPE_SEED=${seed})`, async () => {
    await eachImage(seed, cases, { crash: true }, async (image, context) => {
      const qemu = await qemuVerdict(image.qemuArguments);
      for (const options of [{}, { loops: 'js' as const }, { windows: { sparse: 64, compact: 32, wide: 32 } }]) {
        const ours = await ourCheck(image.path, image.format, options);
        expect(differences(qemu, ours), `${JSON.stringify(options)}\n${context}`).toEqual([]);
        const extra = ours?.kinds.filter(({ category, kind }) => category === 'extra' && !isExpected(kind, image));
        expect(extra, context).toEqual([]);
      }
    });
  });

  it(`on images with random damage (CHAINSCOPE_SEED=${seed})`, async () => {
    await eachImage(seed, cases, { crash: true }, async (image, context) => {
      for (let copy = 0; copy < COPIES; copy++) {
        const random = new Random(image.seed * COPIES + copy);
        const { path, qemuArguments } = await sparseCopy(image, `damaged${copy}`);
        const done = corrupt(random, path, image.format, random.between(1, 3));
        const qemu = await qemuVerdict(qemuArguments);
        const ours = await ourCheck(path, image.format);
        expect(differences(qemu, ours), `copy ${copy}: ${done.join('; ')}\n${context}`).toEqual([]);
      }
    });
  });

  it(`on damaged QED images (CHAINSCOPE_SEED=${seed})`, async () => {
    await eachImage(seed, Math.ceil(cases / 3), { format: 'qed', crash: true }, async (image, context) => {
      for (let copy = 0; copy < COPIES; copy++) {
        const random = new Random(image.seed * COPIES + copy);
        const { path, qemuArguments } = await sparseCopy(image, `damaged${copy}`);
        const done = corrupt(random, path, 'qed', random.between(1, 3));
        const qemu = await qemuVerdict(qemuArguments);
        for (const options of [{}, { window: 64 }]) {
          const ours = await ourCheck(path, 'qed', options);
          expect(differences(qemu, ours), `copy ${copy}: ${done.join('; ')}\n${context}`).toEqual([]);
        }
      }
    });
  });
});
