import { isPromise } from '../../../awaitable';
import { run, type Steps } from './steps';

/** Something that has to be done once before anything else, whoever comes first. When it fails the next one tries again. */
export class Preparation {
  done = false;
  private readonly work: () => Steps<void>;
  private running: Promise<void> | null = null;

  constructor(work: () => Steps<void>) {
    this.work = work;
  }

  *ensure(): Steps<void> {
    while (!this.done) {
      if (this.running) {
        yield this.running;
        continue;
      }
      const running = run(this.finish());
      if (isPromise(running)) {
        const ended = () => {
          this.running = null;
        };
        this.running = running;
        running.then(ended, ended);
        yield running;
      }
    }
  }

  private *finish(): Steps<void> {
    yield* this.work();
    this.done = true;
  }
}
