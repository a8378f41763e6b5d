/** Between two savings of a state that changes all the time, in milliseconds. */
const SAVE_INTERVAL = 200;

/**
 * Saves a state whenever it changes: at once, since the page may be torn down the moment after a click, and no more often than some times a
 * second while it is dragged or scrolled.
 */
export class StateSaver<T> {
  private readonly save: (state: T) => void;
  private resting = false;
  private unsaved: { readonly state: T } | null = null;

  constructor(save: (state: T) => void) {
    this.save = save;
  }

  keep(state: T): void {
    if (this.resting) {
      this.unsaved = { state };
      return;
    }
    this.save(state);
    this.resting = true;
    setTimeout(() => {
      this.resting = false;
      if (this.unsaved) {
        const { state: latest } = this.unsaved;
        this.unsaved = null;
        this.keep(latest);
      }
    }, SAVE_INTERVAL);
  }
}
