import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeImage } from './images';
import { Random } from './random';
import { sideBySide, temporaryFolder, writeWithQemuIo } from './tools';

/* `check`, `map` and `compare` beside qemu-img's on random images: the same text, the same JSON, the same exit code. */

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder('cli-random');
});
afterAll(() => folder.dispose());

const first = Number(process.env['CHAINSCOPE_SEED'] ?? 7000);

/** Our own findings stand in one key and one paragraph of their own, which the other program has not. */
function comparable(stdout: string): unknown {
  if (stdout.startsWith('{')) {
    const parsed = JSON.parse(stdout) as Record<string, unknown>;
    delete parsed['extra-findings'];
    return parsed;
  }
  return stdout.replace(/\nBeyond what qemu-img check looks for:\n(?: {2}.*\n)*/, '');
}

async function expectSame(args: readonly string[]): Promise<void> {
  const { theirs, ours } = await sideBySide(args);
  expect({ args, code: ours.code, stdout: comparable(ours.stdout) }, ours.stderr).toEqual({
    args,
    code: theirs.code,
    stdout: comparable(theirs.stdout),
  });
}

describe.each(Array.from({ length: 16 }, (_, index) => first + index))('seed %i', (seed) => {
  test('check, map and compare', async () => {
    const home = join(folder.path, `seed-${seed}`);
    await mkdir(home);
    const random = new Random(seed);
    const { path, format, size, describe: made } = await makeImage(seed, home, { encrypted: 0, maxDepth: 3, crash: true });
    try {
      await expectSame(['check', path]);
      await expectSame(['check', '--output=json', path]);
      await expectSame(['map', path]);
      await expectSame(['map', '--output=json', path]);
      const start = random.below(size);
      await expectSame(['map', '--output=json', '-s', `${start}`, '-l', `${1 + random.below(size)}`, path]);
      const copy = join(home, `copy.${format}`);
      await copyFile(path, copy);
      await expectSame(['compare', path, copy]);
      await expectSame(['compare', '-s', path, copy]);
      const offset = 512 * random.below(Math.max(1, Math.floor(size / 512)));
      await writeWithQemuIo(['-f', format, copy], [`write -P 77 ${offset} 512`]);
      await expectSame(['compare', path, copy]);
      await expectSame(['compare', '-s', copy, path]);
    } catch (error) {
      throw new Error(`seed ${seed}, made by\n${made}`, { cause: error });
    }
  });
});
