import type { EngineError } from '../errors';
import type { ByteSource } from '../io/source';
import type { LayerMapping } from './layerMapping';
import { UNIT } from './window';

/** A raw file: it supplies every byte, and only the file system knows its holes. */
export class FileMapping implements LayerMapping {
  readonly depth: number;
  readonly length: number;
  readonly clusterSize = 0;
  readonly grain = 0;
  readonly remainder = UNIT.file;
  readonly dataSource: ByteSource;

  constructor(depth: number, source: ByteSource, length: number) {
    this.depth = depth;
    this.length = length;
    this.dataSource = source;
  }

  nextAllocated(): number {
    return Infinity;
  }

  fill(): number {
    return 0;
  }

  holesWithinData(): Promise<boolean> {
    return Promise.resolve(false);
  }

  invalidAt(): EngineError {
    throw new RangeError('a raw file has no entries that could be invalid');
  }
}
