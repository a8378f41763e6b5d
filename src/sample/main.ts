import { writeSampleImages } from '../engine/sample/write';

/* `node dist/sample.js FOLDER` writes the sample images; `npm start` runs it. */

const folder = process.argv[2];
if (!folder) {
  process.stderr.write('usage: node dist/sample.js FOLDER\n');
  process.exit(2);
}
try {
  writeSampleImages(folder);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
