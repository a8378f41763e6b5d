import type { ImageFormat } from '../../protocol/chain';
import { BlockGraph } from '../block/graph/blockGraph';
import { EngineError, invalidRequest, reworded } from '../errors';
import { loading } from '../io/loading';
import { Pace } from '../pace';
import { CopySource } from './copy/copySource';
import { openInput, type SourceFile } from './copy/openInput';
import { createImage } from './create';
import { knownFormat } from './formats';
import type { ManageContext } from './managedImage';

export interface BlockCopyRequest {
  readonly source: SourceFile;
  /** A local file, which is made anew. */
  readonly target: string;
  /** QEMU's name of the target's format. */
  readonly format: string;
  /** Bytes; `count` and `skip` count in them. */
  readonly blockSize: number;
  /** Where in the source to end, in blocks from its beginning; null for all of it. */
  readonly count: number | null;
  /** Where in the source to begin, in blocks. */
  readonly skip: number;
}

/** Bytes that are copied at a time. */
const CHUNK = 1024 * 1024;

/**
 * Copies a part of a disk into a new image, every byte of it, as `qemu-img dd` does.
 * @returns false when the part begins past the end of the source: the new image is empty then
 * @throws EngineError in QEMU's words
 */
export async function copyBlocks(request: BlockCopyRequest, context: ManageContext): Promise<boolean> {
  const { target, blockSize, count, skip } = request;
  const input = await openInput(request.source, null, context);
  try {
    const format = formatOf(request.format);
    const source = await loading(() => new CopySource([input], null));
    const end = Math.min(source.size, count === null ? Infinity : count * blockSize);
    const start = skip * blockSize;
    const size = Math.max(0, end - start);
    try {
      await createImage({ filename: target, format, size, options: {} }, context);
    } catch (error) {
      throw reworded(error, (message) => `${target}: error while creating output image: ${message}`);
    }
    const { gate, currentFolder, signal } = context;
    const graph = new BlockGraph({ gate, currentFolder });
    const opened = await graph.open(target, { format, readOnly: false, user: 'a copy', signal });
    try {
      const pace = new Pace(context);
      const buffer = new Uint8Array(Math.min(CHUNK, size));
      for (let at = 0; at < size; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, size - at));
        await loading(() => source.read(start + at, part, false));
        await opened.node.image.write(at, part);
        if (pace.due()) {
          await pace.turn(at, size);
        }
      }
    } finally {
      await opened.close();
    }
    return start <= end;
  } finally {
    input.chain.close();
  }
}

function formatOf(name: string): ImageFormat {
  try {
    return knownFormat(name);
  } catch (error) {
    throw error instanceof EngineError && error.code === 'request.invalid' ? invalidRequest('Unknown file format') : error;
  }
}
