/** Requests that take longer on average, in milliseconds, may have waited for a disk. */
const SLOW_REQUEST_MS = 0.05;
/** The same of requests whose reads were announced: the disk had begun before they came. */
const SLOW_ANNOUNCED_MS = 0.012;

/**
 * Finds out whether requests that are worked on one after the other wait for a disk, so that announcing them together pays. Time alone does
 * not tell: on a busy machine other programs take it. Who waits for a disk gives the processor up of his own accord, and the system
 * counts that.
 */
export class DiskWatch {
  private waiting = false;
  private suspected = false;
  private began = 0;
  private switches = 0;

  /** Whether the last requests came from a disk. */
  get waits(): boolean {
    return this.waiting;
  }

  begin(): void {
    this.switches = this.suspected ? voluntarySwitches() : 0;
    this.began = performance.now();
  }

  /** @param requests how many were worked on since `begin` */
  end(requests: number): void {
    const each = (performance.now() - this.began) / Math.max(1, requests);
    const slow = each > (this.waiting ? SLOW_ANNOUNCED_MS : SLOW_REQUEST_MS);
    this.waiting = slow && this.suspected && voluntarySwitches() > this.switches;
    this.suspected = slow;
  }
}

/** Of the whole process; its other threads do little while requests are worked on. */
function voluntarySwitches(): number {
  return process.resourceUsage().voluntaryContextSwitches;
}
