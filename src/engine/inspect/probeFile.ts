import type { ImageFormat } from '../../protocol/chain';
import { EngineError } from '../errors';
import { probeBytes } from '../formats/probe';
import { FileSource } from '../io/file';
import { readAvailable } from '../io/source';

/** As much of a file as its format is guessed from. */
const PROBE_BYTES = 2048;

/** The format that a file's first bytes say; null when they say none, and for what cannot be opened or read. Raw is never an answer. */
export function probeFile(path: string): ImageFormat | null {
  try {
    const source = FileSource.open(path);
    try {
      const result = probeBytes(readAvailable(source, 0, PROBE_BYTES));
      return result.kind === 'known' ? result.format : null;
    } finally {
      source.close();
    }
  } catch (error) {
    if (error instanceof EngineError) {
      // Not there, a folder, not permitted: no image for whoever looks around.
      return null;
    }
    throw error;
  }
}
