/** Requests that take longer on average, in milliseconds, may have waited for a disk. */
const SLOW_REQUEST_MS = 0.05;
/** The same of requests whose reads were announced: the disk had begun before they came. */
const SLOW_ANNOUNCED_MS = 0.012;
/** Bytes that are copied out of memory in a millisecond, at the very least. */
const BYTES_PER_MS = 1e6;
/** Times in a row that nothing was waited for until the disk counts as done: what is announced in time is often there in time. */
const CALM = 16;

/**
 * Finds out whether requests that are worked on one after the other wait for a disk, so that announcing them together pays. Time alone does
 * not tell: on a busy machine other programs take it. Who waits for a disk gives the processor up of his own accord, and the system
 * counts that.
 */
export class DiskWatch {
  private waiting = false;
  private suspected = false;
  private calm = 0;
  private began = 0;
  private switches = 0;

  /** Whether the last requests came from a disk. */
  get waits(): boolean {
    return this.waiting;
  }

  begin(): void {
    this.switches = this.suspected || this.waiting ? voluntarySwitches() : 0;
    this.began = performance.now();
  }

  /** @param requests how many were worked on since `begin` @param bytes how many they moved */
  end(requests: number, bytes: number): void {
    const each = this.waiting ? SLOW_ANNOUNCED_MS : SLOW_REQUEST_MS;
    const slow = performance.now() - this.began > Math.max(1, requests) * each + bytes / BYTES_PER_MS;
    const waited = slow && (this.suspected || this.waiting) && voluntarySwitches() > this.switches;
    this.suspected = slow;
    this.calm = waited ? 0 : this.calm + 1;
    this.waiting = waited || (this.waiting && this.calm < CALM);
  }
}

/** Of the whole process; its other threads do little while requests are worked on. */
function voluntarySwitches(): number {
  return process.resourceUsage().voluntaryContextSwitches;
}
