/** Where one has been: back and forward as in a browser. A pure value with a cursor; entries are compared by their JSON. */
export class History<T> {
  private readonly entries: T[] = [];
  private index = -1;
  private readonly limit: number;

  constructor(limit = 100) {
    this.limit = limit;
  }

  get current(): T | null {
    return this.entries[this.index] ?? null;
  }

  get canGoBack(): boolean {
    return this.index > 0;
  }

  get canGoForward(): boolean {
    return this.index < this.entries.length - 1;
  }

  /** Goes to a new entry; what was ahead is forgotten. Going where one already is changes nothing. */
  push(entry: T): void {
    if (this.current !== null && JSON.stringify(this.current) === JSON.stringify(entry)) {
      return;
    }
    this.entries.splice(this.index + 1);
    this.entries.push(entry);
    if (this.entries.length > this.limit) {
      this.entries.shift();
    }
    this.index = this.entries.length - 1;
  }

  /** The current entry moved a little (scrolled, zoomed): it is where back will lead to. */
  replace(entry: T): void {
    if (this.index < 0) {
      this.push(entry);
    } else {
      this.entries[this.index] = entry;
    }
  }

  back(): T | null {
    if (!this.canGoBack) {
      return null;
    }
    this.index--;
    return this.current;
  }

  forward(): T | null {
    if (!this.canGoForward) {
      return null;
    }
    this.index++;
    return this.current;
  }
}
