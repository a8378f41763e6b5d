/** A limit is kept over slices of this length, in milliseconds, as QEMU's: short enough that a guest does not feel the bursts. */
const SLICE_MS = 100;

/** Bytes per second that somebody may copy. */
export class SpeedLimit {
  private bytesPerSecond: number;
  private sliceEnd = 0;
  /** Bytes that may still be used in the current slice; below 0 after a piece larger than a slice's share. */
  private left = 0;

  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond;
  }

  get speed(): number {
    return this.bytesPerSecond;
  }

  /** 0 is no limit. What an earlier limit held back is forgotten. */
  set(bytesPerSecond: number): void {
    this.bytesPerSecond = bytesPerSecond;
    this.sliceEnd = 0;
    this.left = 0;
  }

  /** Accounts for bytes that were copied. */
  use(bytes: number): void {
    this.left -= bytes;
  }

  /** Milliseconds until the next piece may begin; 0 at once. */
  delay(now: number): number {
    if (this.bytesPerSecond === 0) {
      return 0;
    }
    const share = (this.bytesPerSecond * SLICE_MS) / 1000;
    if (now >= this.sliceEnd) {
      // Time that was not used is not saved up, or a job that was paused would rush.
      const slices = this.sliceEnd === 0 ? 1 : 1 + Math.floor((now - this.sliceEnd) / SLICE_MS);
      this.left = Math.min(share, this.left + slices * share);
      this.sliceEnd = now + SLICE_MS;
    }
    if (this.left > 0) {
      return 0;
    }
    const owed = Math.floor(-this.left / share);
    return this.sliceEnd - now + owed * SLICE_MS;
  }
}
