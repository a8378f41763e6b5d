import { EngineError } from '../errors';
import { decompressCluster } from '../formats/qcow2/compression';
import { readAvailable } from '../io/source';
import type { CheckContext } from './context';
import { compressedExtent, isCompressed } from './entries';
import { l2EntryText } from './entryText';
import { hex } from './findings';

/**
 * Decompresses every compressed cluster of the image, those of snapshots too, each once for every table that names it.
 * @throws EngineError `format.unsupported` when the compression is not known or this Node cannot decode it, `cancelled`
 */
export async function decompressAll(context: CheckContext): Promise<void> {
  const { image, walk, loops, pace } = context;
  const { metadata } = image;
  const stride = metadata.extendedL2 ? 2 : 1;
  if (metadata.hasDataFile) {
    return;
  }
  await walk.walk({
    async words(set, table, at, count, firstWord) {
      for (let word = 0; word < count; word += stride) {
        const high = loops.view.getInt32(at + word * 8);
        if (!isCompressed(high)) {
          continue;
        }
        const low = loops.view.getInt32(at + word * 8 + 4);
        const index = (firstWord + word) / stride;
        const trouble = whatIsWrong(context, high, low);
        if (trouble !== null) {
          const text = l2EntryText(
            image,
            set,
            table,
            index,
            high,
            low,
            trouble,
            'The guest cannot read this cluster; QEMU answers with an error.',
          );
          context.findings.add('undecodableCompressed', 'extra', text);
        }
        if (pace.due()) {
          await pace.turn();
        }
      }
    },
    // What could not be read was reported by the scan.
    unreadable: () => undefined,
  });
}

function whatIsWrong({ image }: CheckContext, high: number, low: number): string | null {
  const { metadata, clusterBits, clusterSize } = image;
  const { hostOffset, length } = compressedExtent(high, low, clusterBits);
  const where = `its compressed data at ${hex(hostOffset)}, up to ${length} bytes,`;
  let input: Uint8Array;
  try {
    input = readAvailable(metadata.source, hostOffset, length);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'file.io') {
      return `${where} cannot be read.`;
    }
    throw error;
  }
  return decompressCluster(metadata.compressionType, input, clusterSize) === null ? `${where} does not decompress.` : null;
}
