/**
 * Which rows of a very long list are in sight. The list has no height of its own - browsers know no element of a billion rows - so the
 * position is a number of rows, and the scrollbar is drawn from it. All rows are equally high.
 */
export class RowWindow {
  private count = 0;
  private height = 0;
  private rowHeightPx = 22;
  private position = 0;

  get rows(): number {
    return this.count;
  }

  get rowHeight(): number {
    return this.rowHeightPx;
  }

  /** The row at the upper edge, with the part of it that is already scrolled out behind the point. */
  get top(): number {
    return this.position;
  }

  get first(): number {
    return Math.floor(this.position);
  }

  /** Rows to draw from `first` on: those in sight, and the one that comes in at the lower edge. */
  get visibleCount(): number {
    return Math.max(0, Math.min(Math.ceil(this.height / this.rowHeightPx) + 1, this.count - this.first));
  }

  /** Whole rows that fit. */
  get pageRows(): number {
    return Math.max(1, Math.floor(this.height / this.rowHeightPx));
  }

  /** How far the drawn rows are shifted up, in pixels. */
  get shift(): number {
    return (this.position - this.first) * this.rowHeightPx;
  }

  private get lastTop(): number {
    return Math.max(0, this.count - this.height / this.rowHeightPx);
  }

  resize(height: number, rowHeight: number): void {
    this.height = Math.max(0, height);
    this.rowHeightPx = Math.max(1, rowHeight);
    this.scrollTo(this.position);
  }

  setRows(count: number): void {
    this.count = Math.max(0, count);
    this.scrollTo(this.position);
  }

  /** Returns whether that moved anything. */
  scrollTo(top: number): boolean {
    const before = this.position;
    this.position = Math.min(Math.max(0, top), this.lastTop);
    return this.position !== before;
  }

  scrollByPixels(pixels: number): boolean {
    return this.scrollTo(this.position + pixels / this.rowHeightPx);
  }

  /** Scrolls just so far that the row is wholly in sight. */
  reveal(row: number): boolean {
    const fits = this.height / this.rowHeightPx;
    if (row < this.position) {
      return this.scrollTo(row);
    }
    return row + 1 > this.position + fits ? this.scrollTo(row + 1 - fits) : false;
  }

  /** Puts the row into the upper third, unless it is in sight already. */
  revealCentered(row: number): boolean {
    const fits = this.height / this.rowHeightPx;
    return row >= this.position && row + 1 <= this.position + fits ? false : this.scrollTo(row - Math.floor(fits / 3));
  }

  /** The scrollbar's slider on a track so many pixels long; null when everything fits. */
  slider(track: number, smallest: number): { readonly start: number; readonly length: number } | null {
    if (this.lastTop === 0) {
      return null;
    }
    const share = this.height / this.rowHeightPx / this.count;
    const length = Math.min(track, Math.max(smallest, track * share));
    return { start: (track - length) * (this.position / this.lastTop), length };
  }

  /** The slider was dragged to start there. */
  dragTo(start: number, track: number, smallest: number): boolean {
    const slider = this.slider(track, smallest);
    if (slider === null || track <= slider.length) {
      return false;
    }
    return this.scrollTo((start / (track - slider.length)) * this.lastTop);
  }
}
