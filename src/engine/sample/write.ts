import * as fs from 'node:fs';
import * as path from 'node:path';

import { fileError, invalidRequest } from '../errors';
import type { BuiltImage } from '../formats/qcow2/builder';
import { SAMPLE_IMAGES } from './images';

/**
 * Writes the sample images and a README into `folder`, which is made when it does not exist.
 * @throws EngineError `request.invalid` when the folder is not empty, `file.*` when it cannot be written
 */
export function writeSampleImages(folder: string): void {
  try {
    fs.mkdirSync(folder, { recursive: true });
    if (fs.readdirSync(folder).length > 0) {
      throw invalidRequest(`'${folder}' is not empty. Choose an empty folder for the sample images.`);
    }
    for (const sample of SAMPLE_IMAGES) {
      writeBuiltImage(path.join(folder, sample.fileName), sample.build());
    }
    fs.writeFileSync(path.join(folder, 'README.md'), readme());
  } catch (cause) {
    throw cause instanceof Error && cause.name === 'EngineError' ? cause : fileError(folder, 'Writing the sample images to', cause);
  }
}

/** Writes a new file; never over an existing one. What no piece covers is a hole. */
export function writeBuiltImage(file: string, image: BuiltImage): void {
  const fd = fs.openSync(file, 'wx');
  try {
    fs.ftruncateSync(fd, image.layout.fileSize);
    for (const { hostOffset, bytes } of image.pieces) {
      for (let done = 0; done < bytes.length;) {
        done += fs.writeSync(fd, bytes, done, bytes.length - done, hostOffset + done);
      }
    }
  } finally {
    fs.closeSync(fd);
  }
}

function readme(): string {
  const rows = SAMPLE_IMAGES.map(({ fileName, about }) => `| \`${fileName}\` | ${about} |`);
  return [
    '# Sample disk images',
    '',
    'Made by Chainscope to look at and to try things on. Delete them as you like.',
    '',
    '| file | what there is to see |',
    '|---|---|',
    ...rows,
    '',
  ].join('\n');
}
