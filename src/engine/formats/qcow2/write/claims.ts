import type { Steps } from './steps';

/** A range of guest bytes that a change has to itself. */
interface Claim {
  readonly from: number;
  readonly end: number;
  readonly waiting: (() => void)[];
}

/** Changes that overlap wait for one another; all others run at the same time. On a local file nothing is ever in flight here. */
export class Claims {
  private readonly held = new Set<Claim>();

  get none(): boolean {
    return this.held.size === 0;
  }

  *during<T>(from: number, end: number, work: () => Steps<T>): Steps<T> {
    for (let other = this.conflict(from, end); other; other = this.conflict(from, end)) {
      const { waiting } = other;
      yield new Promise<void>((resolve) => waiting.push(resolve));
    }
    const claim: Claim = { from, end, waiting: [] };
    this.held.add(claim);
    try {
      return yield* work();
    } finally {
      this.held.delete(claim);
      for (const resolve of claim.waiting) {
        resolve();
      }
    }
  }

  private conflict(from: number, end: number): Claim | null {
    for (const claim of this.held) {
      if (claim.from < end && claim.end > from) {
        return claim;
      }
    }
    return null;
  }
}
