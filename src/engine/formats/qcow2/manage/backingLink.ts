import { invalidRequest } from '../../../errors';
import { EXTENSION, LIMITS } from '../structures';
import { withExtension } from './header';
import type { QuietImage } from './quietImage';

/**
 * Writes what the image says of its backing file, as `qemu-img rebase -u` does. No data moves: what the guest reads below is then another
 * file's.
 * @param name as it is recorded, absolute or relative to the image's folder; null or empty for none
 * @param format null leaves it to be guessed
 * @throws EngineError `request.invalid` for a name that is too long, `file.io`
 */
export async function setBackingLink(image: QuietImage, name: string | null, format: string | null): Promise<void> {
  const encoder = new TextEncoder();
  const bytes = name ? encoder.encode(name) : null;
  if (bytes && bytes.length > LIMITS.maxBackingFileName) {
    throw invalidRequest(`The name of the backing file has ${bytes.length} bytes; at most ${LIMITS.maxBackingFileName} can be recorded.`);
  }
  if (bytes && image.metadata.rawDataFile) {
    throw invalidRequest('Backing file and data-file-raw cannot be used at the same time');
  }
  const extension = bytes && format ? encoder.encode(format) : null;
  await image.changeHeader((contents) => ({ ...withExtension(contents, EXTENSION.backingFormat, extension), backingName: bytes }));
}
