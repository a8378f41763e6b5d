import type { GuestObserver } from '../block/trackedNode';
import { SYSTEM_CLOCK, type JobClock } from './clock';

/** A guest that asked for something within this time, in milliseconds, will ask again. */
const RECENT_MS = 50;
/** Bytes that are copied at a time: while nobody else needs the disk, and while a guest may have to wait for each piece. */
const ALONE = 1024 * 1024;
const BESIDE_GUEST = 64 * 1024;

/** Sees whether a guest uses the disk at the moment, and how large a piece may be that it has to wait for. */
export class GuestActivity implements GuestObserver {
  private readonly clock: JobClock;
  private inFlight = 0;
  private last = -Infinity;

  constructor(clock: JobClock = SYSTEM_CLOCK) {
    this.clock = clock;
  }

  requestBegan(): void {
    this.inFlight++;
  }

  requestEnded(): void {
    this.inFlight--;
    this.last = this.clock.now();
  }

  get isActive(): boolean {
    return this.inFlight > 0 || this.clock.now() - this.last < RECENT_MS;
  }

  /** Bytes to copy at a time. */
  get chunkBytes(): number {
    return this.isActive ? BESIDE_GUEST : ALONE;
  }
}
