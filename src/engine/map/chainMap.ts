import type { LayerView } from '../../protocol/place';
import type { OpenedChain } from '../chain/layer';
import { Pace, type PaceOptions } from '../pace';
import { ExtentEmitter, type ExtentSink } from './extents';
import { ACTIVE_VIEW, layerMappings } from './mappings';
import { ChainWalk } from './walk';

export interface ChainMapOptions extends PaceOptions {
  /** What the active layer maps; its active state when left out. */
  readonly view?: LayerView | undefined;
  /** Guest offset to begin at; 0 when left out. */
  readonly start?: number | undefined;
  /** At most so many guest bytes; to the end of the disk when left out. */
  readonly length?: number | undefined;
  /** Look no deeper than this layer; what it does not have is neither present nor known to be zero. */
  readonly maxDepth?: number | undefined;
}

/**
 * The allocation map of a chain, as qemu-img map has it: which layer supplies each guest byte, and from where. Neighbouring extents
 * that continue each other are one. The sink gets them in batches, in address order; progress counts guest bytes.
 * @throws EngineError `format.invalid` at a table entry that stops a driver (all extents before it have been passed on);
 *   `request.invalid`, `cancelled`, `file.io`
 */
export async function mapChain(chain: Pick<OpenedChain, 'layers' | 'complete'>, options: ChainMapOptions, sink: ExtentSink): Promise<void> {
  const pace = new Pace(options);
  const { view = ACTIVE_VIEW, start = 0, length = Infinity, maxDepth = Infinity } = options;
  const layers = chain.layers.slice(0, maxDepth + 1);
  const mappings = layerMappings(layers, view);
  const holes: boolean[] = [];
  for (const mapping of mappings) {
    holes.push(mapping.nextAllocated(0) !== Infinity && (await mapping.holesWithinData(pace)));
  }
  const emitter = new ExtentEmitter(mappings, holes, sink);
  const walk = new ChainWalk(mappings, chain.complete && layers.length === chain.layers.length);
  await walk.run(start, Math.min(start + length, mappings[0]?.length ?? 0), emitter, pace);
  emitter.finish();
}
