import type { ChainLink } from '../../../src/protocol/chain';
import { backingReference, readDetail, virtualSizeOf } from '../../../src/engine/chain/detail';
import type { Layer, OpenedChain } from '../../../src/engine/chain/layer';
import type { BuiltImage } from '../../../src/engine/formats/qcow2/builder';
import type { ByteSource } from '../../../src/engine/io/source';
import { MemorySource } from '../io/memorySource';

/** Files in memory as a chain, active layer first, whatever names they hold. */
export function memoryChain(sources: readonly ByteSource[], format: 'qcow2' | 'qed' | 'raw' | null = null): OpenedChain {
  const layers = sources.map((source, depth): Layer => {
    const detail = readDetail(source, depth === 0 ? format : null);
    const link: ChainLink = {
      recordedName: source.name,
      path: `/${source.name}`,
      state: { kind: 'open' },
      image: null,
      role: depth === 0 ? 'active' : 'backing',
    };
    return {
      depth,
      source,
      detail,
      link,
      path: `/${source.name}`,
      filename: source.name,
      formatRecorded: false,
      virtualSize: virtualSizeOf(source, detail),
    };
  });
  const last = layers.at(-1);
  return {
    layers,
    links: layers.map(({ link }) => link),
    complete: last !== undefined && backingReference(last.detail) === null,
    close: () => undefined,
  };
}

export function memoryImage({ pieces, layout }: BuiltImage, name?: string): MemorySource {
  return MemorySource.of(layout.fileSize, pieces, name);
}
