/** Blocks to fetch before they are asked for. */
export interface Ahead {
  readonly first: number;
  readonly count: number;
}

/**
 * Sees that blocks are read in sequence. The window doubles with every step, and the next is fetched when half of the last has been read,
 * so that a sequential reader rarely waits; whoever jumps about fetches nothing in vain.
 */
export class ReadAhead {
  private readonly max: number;
  private window = 0;
  /** Behind the last block that was read, and behind the last that was asked for in advance. */
  private next = -1;
  private end = 0;

  /** @param max blocks; 0 for none */
  constructor(max: number) {
    this.max = max;
  }

  /** Blocks had to be fetched because somebody reads them. */
  miss(first: number, last: number): Ahead | null {
    // A reader may be a little ahead or behind of another who reads the same stretch.
    const sequential = this.next >= 0 && first <= this.next && first >= this.next - Math.max(1, this.window);
    this.window = sequential ? Math.min(this.max, Math.max(2, this.window * 2)) : 0;
    this.next = last + 1;
    this.end = last + 1 + this.window;
    return this.window === 0 ? null : { first: last + 1, count: this.window };
  }

  /** Blocks that were there were read. */
  read(first: number, last: number): Ahead | null {
    if (this.window === 0 || first > this.next || last + 1 < this.next) {
      return null;
    }
    this.next = last + 1;
    if (this.end - this.next >= this.window / 2) {
      return null;
    }
    this.window = Math.min(this.max, this.window * 2);
    const ahead = { first: this.end, count: this.window };
    this.end += this.window;
    return ahead;
  }
}
