import { Pace, type PaceOptions } from '../pace';

/**
 * The pace of a check, which counts bytes of L2 tables. How many there are is known only when all L1 tables were read, and how often they
 * are gone over depends on what is found; the total grows with what becomes known.
 */
export class CheckPace {
  private readonly pace: Pace;
  private bytesDone = 0;
  private bytesPerPass = 0;
  private passes = 1;

  /** @throws EngineError `cancelled` */
  constructor(options: PaceOptions) {
    this.pace = new Pace(options);
  }

  /** There will be (at least) this many passes over the tables. */
  expectPasses(passes: number): void {
    this.passes = Math.max(this.passes, passes);
  }

  /** A pass goes over (at least) this many bytes. */
  expect(bytesPerPass: number): void {
    this.bytesPerPass = Math.max(this.bytesPerPass, bytesPerPass);
  }

  done(bytes: number): void {
    this.bytesDone += bytes;
  }

  due(): boolean {
    return this.pace.due();
  }

  /** @throws EngineError `cancelled` */
  async turn(): Promise<void> {
    await this.pace.turn(this.bytesDone, Math.max(this.bytesDone, this.bytesPerPass * this.passes));
  }
}
