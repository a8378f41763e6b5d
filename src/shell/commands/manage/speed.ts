import { formatBytes } from '../../text/bytes';

/** How far back the speed looks, in milliseconds: long enough to be read, short enough to tell of the present. */
const WINDOW_MS = 3_000;

/** How fast something is, over the last few seconds. */
export class Speed {
  private readonly samples: { readonly time: number; readonly bytes: number }[] = [];

  /** Takes note of what is done. @param time milliseconds of any clock @returns `120 MiB/s`; empty while it cannot be told */
  at(time: number, bytes: number): string {
    this.samples.push({ time, bytes });
    while (this.samples.length > 2 && this.samples[1]!.time <= time - WINDOW_MS) {
      this.samples.shift();
    }
    const [first] = this.samples;
    const elapsed = first === undefined ? 0 : time - first.time;
    return first === undefined || elapsed === 0 ? '' : `${formatBytes(Math.round(((bytes - first.bytes) / elapsed) * 1000))}/s`;
  }
}
