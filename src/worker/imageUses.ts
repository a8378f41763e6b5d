import { EngineError } from '../engine/errors';
import { fileKey, FileSource, type FileIdentity } from '../engine/io/file';
import type { SharedGraph } from './sharedGraph';

/** What is done with a file, by whom: "another change". */
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
  private readonly graph: Pick<SharedGraph, 'useOf'>;
  private readonly uses = new Map<string, Use[]>();

  /** @param graph the images that exports and jobs use; which those are changes while jobs go on */
  constructor(graph: Pick<SharedGraph, 'useOf'>) {
    this.graph = graph;
  }

  /**
   * Takes files into use; one that is not there is nobody's.
   * @param inGraph they are being opened in the worker's graph, which decides what its users may do beside each other
   * @returns gives them up again: when the change is made, or the graph has them
   * @throws EngineError `file.locked` when a file that is to be written is in use, or one that is to be read is being written
   */
  claim(claims: readonly Claim[], user: string, inGraph = false): () => void {
    const taken = claims.flatMap(({ path, writes }) => {
      const identity = identityOf(path);
      return identity === null ? [] : [{ path, identity, file: fileKey(identity), use: { user, writes, inGraph } }];
    });
    for (const { path, identity, file, use } of taken) {
      const others = [...(this.uses.get(file) ?? []), ...this.usesInGraph(identity)];
      const other = others.find((one) => (one.writes || use.writes) && !(one.inGraph && inGraph));
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

  private usesInGraph(identity: FileIdentity): readonly Use[] {
    const use = this.graph.useOf(identity);
    return use === null ? [] : [{ ...use, inGraph: true }];
  }
}

function identityOf(path: string): FileIdentity | null {
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
    return file.identity;
  } finally {
    file.close();
  }
}
