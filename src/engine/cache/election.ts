import { EngineError } from '../errors';
import type { FileSource } from '../io/file';
import { FileStorage } from '../io/fileStorage';
import { tryElecting } from '../io/imageLocks';

/** Somebody who opens a cache image takes no longer than that; one that was stopped within may. In milliseconds. */
const LONGEST_MS = 2000;
const PAUSE_MS = 5;

/**
 * Keeps others from opening a cache image while one finds out whether it is the one who warms it: of two who read first and ask
 * afterwards, each would be in the other's way.
 */
export class Election {
  private readonly file: FileStorage;

  private constructor(file: FileStorage) {
    this.file = file;
  }

  /** Waits for its turn, but not for ever: without it, too, there is never more than one who warms. Null for a file that nobody here writes. */
  static async begin(image: FileSource): Promise<Election | null> {
    let file: FileStorage;
    try {
      // Only who may write may lock for itself.
      file = FileStorage.reopen(image, { writable: true });
    } catch (error) {
      if (error instanceof EngineError) {
        return null;
      }
      throw error;
    }
    for (const until = performance.now() + LONGEST_MS; !tryElecting(file) && performance.now() < until;) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    return new Election(file);
  }

  end(): void {
    this.file.close();
  }
}
