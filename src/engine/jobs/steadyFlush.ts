import type { BlockNode } from '../block/blockNode';

/** Bytes after which what was copied is sent to the disk. */
const EVERY = 64 * 1024 * 1024;

/**
 * Keeps the disk busy while a job copies: sends what was written to it again and again and waits only for the time before last, so that
 * little is left to wait for at the end.
 */
export class SteadyFlush {
  private readonly node: BlockNode;
  private since = 0;
  private running: Promise<void> | null = null;

  constructor(node: BlockNode) {
    this.node = node;
  }

  /** @throws EngineError of an earlier flush */
  async copied(bytes: number): Promise<void> {
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
    await this.node.flush();
  }
}
