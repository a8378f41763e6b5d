import type { BlockNode } from '../../block/blockNode';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { RawNode } from '../../formats/raw/rawNode';
import type { Storage } from '../../io/storage';

/** Bytes after which the disk is set to work. */
const EVERY = 64 * 1024 * 1024;

/**
 * Lets the disk write what was copied while copying goes on, so that little is left to be waited for at the end. Nothing depends on what
 * has been written: the flush that makes a copy durable comes afterwards.
 */
export class WriteBehind {
  private readonly storage: Storage | null;
  private written = 0;
  private running: Promise<void> | null = null;
  private failure: { readonly error: unknown } | null = null;

  constructor(target: BlockNode) {
    this.storage = dataStorageOf(target);
  }

  /** Tells of bytes that the target has got. */
  wrote(length: number): void {
    this.written += length;
    if (this.written >= EVERY && this.storage && !this.running) {
      this.written = 0;
      this.running = this.storage.flush().then(
        () => {
          this.running = null;
        },
        (error: unknown) => {
          this.running = null;
          // The system tells of a failed write once: the flush at the end would not hear of it.
          this.failure ??= { error };
        },
      );
    }
  }

  /** Waits for the disk. @throws what went wrong, now or before */
  async end(): Promise<void> {
    await this.running;
    if (this.failure) {
      throw this.failure.error;
    }
  }
}

/** What the bytes of an image are written to; null where that is not known. */
function dataStorageOf(node: BlockNode): Storage | null {
  if (node instanceof Qcow2Node) {
    return node.dataFile ?? node.storage;
  }
  return node instanceof RawNode ? node.storage : null;
}
