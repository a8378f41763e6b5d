import type { JobHold } from '../../protocol/jobs';
import { SYSTEM_CLOCK, type JobClock } from './clock';
import type { JobPacer } from './jobWork';

export interface IdlePacerOptions {
  /** How long the guest must have asked for nothing, in milliseconds, before a piece is copied. */
  readonly graceMs: number;
  /** Holds back while the whole system is busy, too. */
  readonly pressure?: PressureOptions | undefined;
  readonly clock?: JobClock | undefined;
}

export interface PressureOptions {
  /** Microseconds in which some program waited for I/O, as `ioStallMicroseconds`; null when the system does not tell. */
  read(): number | null;
  /** Share of the time, 0 to 1, in which somebody waits for I/O from which on the system counts as busy. */
  readonly threshold: number;
}

/** While the job copies, its own I/O is pressure too. So it stops this often, this long, to see what is left without it. */
const LOOK_EVERY_MS = 2000;
const LOOK_MS = 250;

/**
 * Lets a job work only while nobody else needs the disk: the guest has had no request in flight for a grace time, and, where that is wanted,
 * nobody on the whole system waits for I/O. A guest's request never waits for more than the piece that is being copied, since the job asks
 * before each.
 */
export class IdlePacer implements JobPacer {
  private readonly graceMs: number;
  private readonly pressure: PressureOptions | null;
  private readonly clock: JobClock;
  private readonly listeners = new Set<() => void>();
  private inFlight = 0;
  /** Whether the grace time has passed since the guest's last request. */
  private quiet = false;
  private stopGrace: (() => void) | null = null;
  private stopLook: (() => void) | null = null;
  /** Nothing is copied while the pressure is looked at, nor while it is too high. */
  private looking = false;
  private busySystem = false;

  constructor({ graceMs, pressure, clock }: IdlePacerOptions) {
    this.graceMs = graceMs;
    this.pressure = pressure ?? null;
    this.clock = clock ?? SYSTEM_CLOCK;
  }

  /** Starts the watch; `stop` ends it. */
  start(): void {
    this.startGrace();
    if (this.pressure) {
      this.look(this.pressure);
    }
  }

  stop(): void {
    this.stopGrace?.();
    this.stopLook?.();
    this.stopGrace = null;
    this.stopLook = null;
  }

  /** A request of the guest begins. */
  requestBegan(): void {
    this.inFlight++;
    this.stopGrace?.();
    this.stopGrace = null;
    this.quiet = false;
  }

  /** A request of the guest has ended. */
  requestEnded(): void {
    this.inFlight--;
    if (this.inFlight === 0) {
      this.startGrace();
    }
  }

  hold(): JobHold | null {
    if (!this.quiet) {
      return 'idle';
    }
    return this.looking || this.busySystem ? 'system' : null;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private startGrace(): void {
    this.stopGrace = this.clock.after(this.graceMs, () => {
      this.stopGrace = null;
      this.quiet = true;
      this.tell();
    });
  }

  /** Compares two readings, with the job standing still between them. */
  private look(pressure: PressureOptions): void {
    const before = pressure.read();
    if (before === null) {
      return;
    }
    this.looking = true;
    const from = this.clock.now();
    this.stopLook = this.clock.after(LOOK_MS, () => {
      const stalled = (pressure.read() ?? before) - before;
      const share = stalled / 1000 / Math.max(1, this.clock.now() - from);
      this.looking = false;
      this.busySystem = share >= pressure.threshold;
      this.tell();
      // A system that was busy is looked at again at once.
      this.stopLook = this.clock.after(this.busySystem ? 0 : LOOK_EVERY_MS, () => this.look(pressure));
    });
  }

  private tell(): void {
    for (const listener of [...this.listeners]) {
      listener();
    }
  }
}
