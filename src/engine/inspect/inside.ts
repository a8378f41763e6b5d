import { EngineError } from '../errors';
import { describeOffset, type Address } from './address';
import { hex } from './wording';

/**
 * @param size bytes of the disk or the file
 * @throws EngineError `address.invalid` for an offset outside
 */
export function requireInside({ space, offset }: Pick<Address, 'space' | 'offset'>, size: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new EngineError('address.invalid', `${offset} is no offset.`);
  }
  if (offset >= size) {
    const [what, whole] = space === 'guest' ? ['Guest', 'disk'] : ['Host', 'file'];
    throw new EngineError(
      'address.invalid',
      `${what} offset ${describeOffset(offset)} is past the end of the ${whole}, which has ${size} bytes (${hex(size)}).`,
    );
  }
}
