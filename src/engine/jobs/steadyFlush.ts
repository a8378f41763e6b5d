import type { BlockNode } from '../block/blockNode';
import { TrackedNode } from '../block/trackedNode';
import { WriteBehind } from '../manage/copy/writeBehind';

/** Bytes that a crash may cost at most: after so many an image that is copied into leads to them. */
const EVERY = 512 * 1024 * 1024;

/**
 * Keeps the disk busy while a job copies, so that little is left to wait for at the end. What an image says of its bytes is written seldom
 * meanwhile: each time the disk would have to be waited for between two steps of it.
 */
export class SteadyFlush {
  private readonly node: BlockNode;
  private readonly behind: WriteBehind;
  private since = 0;
  private running: Promise<void> | null = null;

  constructor(node: BlockNode) {
    this.node = node;
    this.behind = new WriteBehind(node instanceof TrackedNode ? node.image : node);
  }

  /** @throws EngineError of an earlier flush */
  async copied(bytes: number): Promise<void> {
    this.behind.wrote(bytes);
    this.since += bytes;
    if (this.since < EVERY) {
      return;
    }
    this.since = 0;
    await this.running;
    this.running = this.node.flush();
    // Told by the next call, or at the end.
    this.running.catch(() => undefined);
  }

  /** Ends when everything is on the disk. @throws EngineError */
  async end(): Promise<void> {
    await this.running;
    await this.behind.end();
    await this.node.flush();
  }
}
