/** A small seeded generator (xorshift32 over a mixed seed): the same seed gives the same case on every machine. */
export class Random {
  readonly seed: number;
  private state: number;

  constructor(seed: number) {
    this.seed = seed;
    // Neighbouring seeds must not give neighbouring sequences.
    let mixed = (seed ^ 0x9e3779b9) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b) >>> 0;
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) >>> 0;
    this.state = (mixed ^ (mixed >>> 16)) >>> 0 || 1;
  }

  /** 32 random bits. */
  bits(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }

  /** An integer from 0 to `limit` - 1; `limit` may be up to 2^53. */
  below(limit: number): number {
    return Math.floor(((this.bits() * 2 ** 21 + (this.bits() >>> 11)) / 2 ** 53) * limit);
  }

  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.bits() / 2 ** 32 < probability;
  }

  pick<T>(choices: readonly [T, ...T[]]): T;
  pick<T>(choices: readonly T[]): T | undefined;
  pick<T>(choices: readonly T[]): T | undefined {
    return choices[this.below(choices.length)];
  }
}

/** The seed of a random test: from `CHAINSCOPE_SEED`, or one that is the same in every run: `npm run soak` tries others. Whoever uses it prints it. */
export function testSeed(): number {
  const given = process.env['CHAINSCOPE_SEED'];
  return given === undefined ? 20261121 : Number(given);
}

/** How many random cases to run: `CHAINSCOPE_CASES`, or the number that suits every run of the suite. */
export function testCases(usual: number): number {
  const given = process.env['CHAINSCOPE_CASES'];
  return given === undefined ? usual : Number(given);
}
