import { requireSomeInside } from '../../block/inFlight';
import type { ByteSource } from '../../io/source';
import { plainExtent, type GuestExtent, type LayerStatus } from '../extent';
import { rawVirtualSize } from './size';

/** A raw image: every byte is where it is; holes of the file are zeroes. Like in QEMU a raw image leaves nothing to a backing file. */
export class RawStatus implements LayerStatus {
  readonly size: number;
  private readonly source: ByteSource;

  constructor(source: ByteSource) {
    this.source = source;
    this.size = rawVirtualSize(source.size);
  }

  blockStatus(guestOffset: number, length: number): GuestExtent {
    requireSomeInside(guestOffset, length, this.size);
    if (guestOffset >= this.source.size) {
      // The rest of the last sector.
      return plainExtent('zero', Math.min(length, this.size - guestOffset));
    }
    const extent = this.source.extentAt(guestOffset);
    return plainExtent(extent.data ? 'data' : 'zero', Math.min(length, extent.length), guestOffset);
  }
}
