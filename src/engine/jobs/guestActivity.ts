import type { GuestObserver } from '../block/trackedNode';
import { SYSTEM_CLOCK, type JobClock } from './clock';

/** A guest that asked for something within this time, in milliseconds, will ask again. */
const RECENT_MS = 50;
/** Bytes that are copied at a time: while nobody else needs the disk, and while a guest may have to wait for each piece. */
const ALONE = 1024 * 1024;
const BESIDE_GUEST = 64 * 1024;
/** A guest that has asked for nothing for this long thinks for a while, in milliseconds. */
const THINKING_MS = 1;
/** A job gets a piece copied this often, however much the guest asks for, in milliseconds. */
const WAIT_MS = 4;
/** After so many requests in that time a larger piece is copied: less than one request in a hundred meets it. */
const MANY_REQUESTS = 100;
const BESIDE_MANY = 512 * 1024;

/** Sees whether a guest uses the disk at the moment, and how large a piece may be that it has to wait for. */
export class GuestActivity implements GuestObserver {
  private readonly clock: JobClock;
  private inFlight = 0;
  private last = -Infinity;
  private requests = 0;
  private seen = 0;
  private urgent = false;
  private many = false;

  constructor(clock: JobClock = SYSTEM_CLOCK) {
    this.clock = clock;
  }

  requestBegan(): void {
    this.inFlight++;
    this.requests++;
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
    return this.isActive ? (this.many ? BESIDE_MANY : BESIDE_GUEST) : ALONE;
  }

  /** The job waits for no pauses: the longer it takes, the more the guest adds to what it has to copy. */
  hurry(): void {
    this.urgent = true;
  }

  /**
   * After requests of the guest, waits until it pauses, but not for long. A turn of the event loop alone is not enough: a thread that never
   * sleeps keeps the processor from the guest that it has just answered.
   */
  async giveWay(): Promise<void> {
    const before = this.seen;
    const until = this.clock.now() + WAIT_MS;
    while (!this.urgent && this.seen !== this.requests && this.clock.now() < until) {
      this.seen = this.requests;
      await new Promise<void>((resolve) => void this.clock.after(THINKING_MS, resolve));
    }
    this.many = this.seen !== this.requests && this.requests - before >= MANY_REQUESTS;
    this.seen = this.requests;
  }
}
