import { EngineError } from '../engine/errors';
import { FileSource } from '../engine/io/file';

/** What is done with a file, by whom: "an NBD export". */
interface Use {
  readonly user: string;
  readonly writes: boolean;
  readonly inGraph: boolean;
}

export interface Claim {
  readonly path: string;
  readonly writes: boolean;
}

/**
 * Who uses which files in this worker. Locks keep processes apart, and openings within one; where there are no locks at least what this
 * worker does itself stays apart.
 */
export class ImageUses {
  private readonly uses = new Map<string, Use[]>();

  /**
   * Takes files into use; one that is not there is nobody's.
   * @param inGraph they are used through the worker's graph, which decides what its users may do beside each other
   * @returns gives them up again
   * @throws EngineError `file.locked` when a file that is to be written is in use, or one that is to be read is being written
   */
  claim(claims: readonly Claim[], user: string, inGraph = false): () => void {
    const taken = claims.flatMap(({ path, writes }) => {
      const file = identityOf(path);
      return file === null ? [] : [{ path, file, use: { user, writes, inGraph } }];
    });
    for (const { path, file, use } of taken) {
      const other = this.uses.get(file)?.find((one) => (one.writes || use.writes) && !(one.inGraph && inGraph));
      if (other) {
        throw new EngineError('file.locked', `'${path}' is in use by ${other.user} of this window. End that first.`, { file: path });
      }
    }
    for (const { file, use } of taken) {
      this.uses.set(file, [...(this.uses.get(file) ?? []), use]);
    }
    return () => {
      for (const { file, use } of taken) {
        const left = (this.uses.get(file) ?? []).filter((other) => other !== use);
        if (left.length > 0) {
          this.uses.set(file, left);
        } else {
          this.uses.delete(file);
        }
      }
    };
  }
}

function identityOf(path: string): string | null {
  let file: FileSource;
  try {
    file = FileSource.open(path);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'file.notFound') {
      return null;
    }
    throw error;
  }
  try {
    const { device, inode } = file.identity;
    return `${device}:${inode}`;
  } finally {
    file.close();
  }
}
