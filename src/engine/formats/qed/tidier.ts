import type { Storage } from '../../io/storage';
import type { QedFlusher } from './flusher';
import type { QedHeaderWriter } from './headerWriter';
import type { Serialised } from './serialised';
import type { QedTables } from './tables';

/** Calls back once after `ms` milliseconds, unless the returned function is called before. Must not keep the process alive. */
export type IdleTimer = (ms: number, callback: () => void) => () => void;

/** As QEMU has it. */
const IDLE_MS = 5000;

/** Takes the mark of an image in use away when nothing was allocated for a while, and when it is closed. */
export class QedTidier {
  private readonly parts: {
    readonly storage: Storage;
    readonly header: QedHeaderWriter;
    readonly tables: QedTables;
    readonly flusher: QedFlusher;
    readonly allocations: Serialised;
    /** Whether the tables contradict themselves: the mark stays then. */
    readonly damaged: () => boolean;
  };
  private readonly timer: IdleTimer;
  private cancel: (() => void) | null = null;
  private tidying: Promise<void> | null = null;
  /** Whether something was allocated since the timer was set. */
  private busy = false;
  private stopped = false;
  /** An error of a flush that nobody waited for. */
  private unreported: { readonly error: unknown } | null = null;

  constructor(parts: QedTidier['parts'], timer: IdleTimer = systemTimer) {
    this.parts = parts;
    this.timer = timer;
  }

  /** The image is marked: it shall not stay so for long. */
  arm(): void {
    this.busy = false;
    this.cancel = this.timer(IDLE_MS, () => {
      this.cancel = null;
      this.tidy();
    });
  }

  /** Something is allocated. */
  noteChange(): void {
    this.busy = true;
  }

  /** Nothing begins by itself any more. */
  stop(): void {
    this.stopped = true;
    this.cancel?.();
  }

  /** Ends when what began by itself has ended. */
  async settle(): Promise<void> {
    await this.tidying;
  }

  /** @throws what went wrong while nobody waited: the guest relies on a flush to tell it */
  report(): void {
    if (this.unreported) {
      const { error } = this.unreported;
      this.unreported = null;
      throw error;
    }
  }

  /** Ends with everything on the disk and, unless the image is damaged, the mark gone. */
  async markClean(): Promise<void> {
    const { flusher, header, allocations, tables, storage, damaged } = this.parts;
    await flusher.flush();
    if (!header.needCheck || damaged()) {
      return;
    }
    // In the allocations' turn: nothing may change between the flush and the mark.
    await allocations.run(async () => {
      if (tables.changed) {
        this.armAgain();
        return;
      }
      await header.setNeedCheck(false);
      await storage.flush();
    });
  }

  private tidy(): void {
    if (this.stopped) {
      return;
    }
    if (this.busy) {
      this.arm();
      return;
    }
    this.tidying = this.markClean()
      .catch((error: unknown) => {
        this.unreported ??= { error };
        this.armAgain();
      })
      .finally(() => (this.tidying = null));
  }

  private armAgain(): void {
    if (!this.stopped && !this.cancel) {
      this.arm();
    }
  }
}

function systemTimer(ms: number, callback: () => void): () => void {
  const timer = setTimeout(callback, ms);
  timer.unref();
  return () => clearTimeout(timer);
}
