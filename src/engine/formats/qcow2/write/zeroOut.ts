import type { Storage } from '../../../io/storage';
import { wait, type Steps } from './steps';

const ZEROES = new Uint8Array(64 * 1024);

/** Makes a range of the image file read as zero, whatever was there. */
export function* zeroOut(storage: Storage, hostOffset: number, length: number): Steps<void> {
  if (length > ZEROES.length) {
    yield* wait(storage.writeZeroes(hostOffset, length));
  } else {
    yield* wait(storage.write(ZEROES.subarray(0, length), hostOffset));
  }
}
