/** Something that is to be given back. */
export interface Disposable {
  dispose(): void;
}

/** Holds what was created until all of it is given back, last first; what comes after that is given back at once. */
export class DisposableStore implements Disposable {
  private readonly held: Disposable[] = [];
  private disposed = false;

  add<T extends Disposable>(disposable: T): T {
    if (this.disposed) {
      disposable.dispose();
    } else {
      this.held.push(disposable);
    }
    return disposable;
  }

  dispose(): void {
    this.disposed = true;
    for (let last = this.held.pop(); last !== undefined; last = this.held.pop()) {
      last.dispose();
    }
  }
}
