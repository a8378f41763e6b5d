import type { CacheStatus } from '../../protocol/exports';
import { EngineError } from '../errors';
import type { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import type { TrackedNode } from '../block/trackedNode';
import type { CacheStorage } from './cacheStorage';

export interface WarmingParts {
  readonly tracked: TrackedNode;
  readonly image: Qcow2Node;
  readonly storage: CacheStorage;
  readonly quota: number;
  /** Told once, when warming ends for another reason than the quota. */
  readonly onProblem: (filename: string, problem: unknown) => void;
}

/** So much is copied before tables are written, so that other readers, and those after a crash, have it. */
const COMMIT_BYTES = 16 * 1024 * 1024;
/** And what is copied is written so long after the last copy at the latest. */
const COMMIT_MS = 1000;

/** Fills a cache image with what is read through it, up to its quota. Nothing that goes wrong here reaches who reads. */
export class CacheWarming {
  private readonly parts: WarmingParts;
  private state: 'warming' | 'full' | 'failed' = 'warming';
  private problem: string | null = null;
  private copied = 0;
  private uncommitted = 0;
  private timer: NodeJS.Timeout | null = null;

  constructor(parts: WarmingParts) {
    this.parts = parts;
    parts.tracked.setCopyOnRead({
      bottom: null,
      mayCopy: () => this.state === 'warming',
      onCopied: (bytes) => this.noteCopied(bytes),
      onError: (error) => this.noteFailure(error),
    });
  }

  status(): CacheStatus {
    const { image, storage, quota, tracked } = this.parts;
    const { state, problem, copied } = this;
    return { filename: image.filename, state, quota, used: storage.size, ...tracked.readCounts, copied, problem };
  }

  /** The image is to be closed, or used otherwise. */
  end(): void {
    this.parts.tracked.setCopyOnRead(null);
    this.stopTimer();
    this.state = 'full';
  }

  /** Something could not be written. */
  noteFailure(error: unknown): void {
    if (this.state === 'failed') {
      return;
    }
    if (this.parts.storage.takeRefused() && error instanceof EngineError && error.code === 'file.full') {
      this.state = 'full';
      return;
    }
    this.state = 'failed';
    this.problem = error instanceof Error ? error.message : String(error);
    this.parts.onProblem(this.parts.image.filename, error);
  }

  private noteCopied(bytes: number): void {
    this.copied += bytes;
    this.uncommitted += bytes;
    if (this.uncommitted >= COMMIT_BYTES) {
      this.commit();
    } else if (this.timer === null) {
      this.timer = setTimeout(() => this.commit(), COMMIT_MS);
      this.timer.unref();
    }
  }

  private commit(): void {
    this.stopTimer();
    this.uncommitted = 0;
    this.parts.image.flush().catch((error: unknown) => this.noteFailure(error));
  }

  private stopTimer(): void {
    if (this.timer) {
      clearTimeout(this.timer);
      this.timer = null;
    }
  }
}
