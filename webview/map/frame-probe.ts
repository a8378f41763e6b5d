/** Frames as they were drawn, for the benchmark: milliseconds between them and milliseconds that drawing took. */
export interface FrameTimes {
  readonly intervals: readonly number[];
  readonly drawing: readonly number[];
}

declare global {
  /** Present once a map was on the screen. */
  var chainscopeFrames: FrameProbe | undefined;
}

/** Records only between `start` and `stop`, at most ten minutes of frames. */
export class FrameProbe {
  private static readonly LIMIT = 36_000;
  private intervals: number[] = [];
  private drawing: number[] = [];
  private last: number | null = null;
  private recording = false;

  start(): void {
    this.intervals = [];
    this.drawing = [];
    this.last = null;
    this.recording = true;
  }

  stop(): FrameTimes {
    this.recording = false;
    return { intervals: this.intervals, drawing: this.drawing };
  }

  /** @param at when the frame began, as requestAnimationFrame says, in milliseconds */
  frame(at: number, drawing: number): void {
    if (!this.recording || this.drawing.length >= FrameProbe.LIMIT) {
      return;
    }
    if (this.last !== null) {
      this.intervals.push(at - this.last);
    }
    this.last = at;
    this.drawing.push(drawing);
  }
}
