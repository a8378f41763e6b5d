import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NODE, ROOT } from '../run/paths.mjs';
import { run } from '../run/processes.mjs';

/** A workspace of images that are worth looking at. */
export const SAMPLE = join(ROOT, '.sample');

/**
 * Writes the sample workspace with the engine itself, unless it is there.
 *
 * @param {(step: string) => void} say
 * @param {boolean} fresh writes it anew
 */
export async function writeSample(say, fresh) {
  if (existsSync(SAMPLE) && !fresh) {
    return;
  }
  say(`Writing sample images to ${SAMPLE}`);
  const partial = `${SAMPLE}-partial`;
  await rm(partial, { recursive: true, force: true });
  await writeSampleImages(partial);
  await rm(SAMPLE, { recursive: true, force: true });
  await rename(partial, SAMPLE);
}

/**
 * @param {string} folder is created
 * @throws {Error}
 */
export async function writeSampleImages(folder) {
  await mkdir(folder, { recursive: true });
  const { code, output } = await run(NODE, [join(ROOT, 'dist', 'sample.js'), folder], { quiet: true });
  if (code !== 0) {
    throw new Error(`The sample images could not be written:\n${output.trim()}`);
  }
}
