/** Rates are told over this many milliseconds. */
const WINDOW_MS = 3000;

/** How fast something goes, from when how much of it was done. */
export class Rate {
  private readonly samples: { readonly at: number; readonly done: number }[] = [];

  note(at: number, done: number): void {
    const last = this.samples.at(-1);
    // Some samples a second tell as much as thousands.
    if (!last || at - last.at >= WINDOW_MS / 20) {
      this.samples.push({ at, done });
    }
    while (this.samples.length > 2 && at - this.samples[1]!.at > WINDOW_MS) {
      this.samples.shift();
    }
  }

  /** Per second; 0 where there is nothing to tell from. */
  at(now: number, done: number): number {
    const first = this.samples[0];
    return first && now > first.at ? Math.max(0, ((done - first.done) * 1000) / (now - first.at)) : 0;
  }

  clear(): void {
    this.samples.length = 0;
  }
}
