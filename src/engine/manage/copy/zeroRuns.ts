import { isZero } from '../../isZero';

/* What of a buffer is worth writing: zeroes that are long enough become holes. */

/** A part of a buffer. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly zero: boolean;
}

/**
 * Splits a buffer into data and zeroes. Zeroes in the middle of data count only from `least` bytes on, at the beginning always: what
 * came before may have ended in zeroes.
 * @param offset the buffer's place on the disk
 * @param unit what is looked at, in bytes, counted from the beginning of the disk
 */
export function* zeroRuns(bytes: Buffer, offset: number, unit: number, least: number): Generator<Run, void, undefined> {
  const { length } = bytes;
  const before = offset % unit;
  const endOf = (at: number) => Math.min(length, at + unit - ((before + at) % unit));
  const reach = (from: number, zero: boolean) => {
    let at = from;
    while (at < length && isZero(bytes, at, endOf(at)) === zero) {
      at = endOf(at);
    }
    return at;
  };
  for (let at = 0; at < length;) {
    const leading = reach(at, true);
    if (leading > at) {
      yield { start: at, end: leading, zero: true };
      at = leading;
      continue;
    }
    let end = reach(at, false);
    while (end < length) {
      const after = reach(end, true);
      if (after - end >= least) {
        break;
      }
      end = reach(after, false);
    }
    yield { start: at, end, zero: false };
    at = end;
  }
}
