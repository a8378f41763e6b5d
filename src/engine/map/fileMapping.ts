import { unsupported, type EngineError } from '../errors';
import type { ByteSource } from '../io/source';
import type { LayerMapping } from './layerMapping';
import { UNIT } from './window';

/**
 * A layer without tables. A raw file supplies every byte, and only the file system knows its holes; of a VMDK nothing but the length is
 * known, since its grains are not read.
 */
export class FileMapping implements LayerMapping {
  readonly depth: number;
  readonly length: number;
  readonly clusterSize = 0;
  readonly grain = 0;
  readonly remainder: typeof UNIT.file | typeof UNIT.invalid;
  readonly dataSource: ByteSource;

  constructor(depth: number, source: ByteSource, length: number, format: 'raw' | 'vmdk') {
    this.depth = depth;
    this.length = length;
    this.dataSource = source;
    this.remainder = format === 'raw' ? UNIT.file : UNIT.invalid;
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
    return unsupported(this.dataSource.name, 'VMDK sparse extent header', 0, 'The grains of a VMDK image are not read.');
  }
}
