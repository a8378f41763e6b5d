import type { ByteSource } from './source';

/** A source that reads as zeroes past its end, as every file does to a QEMU driver that reads metadata. Closing it closes nothing. */
export class EndlessSource implements ByteSource {
  readonly name: string;
  readonly size = Number.MAX_SAFE_INTEGER;
  readonly allocatedBytes: number;
  private readonly source: ByteSource;

  constructor(source: ByteSource) {
    this.source = source;
    this.name = source.name;
    this.allocatedBytes = source.allocatedBytes;
  }

  read(target: Uint8Array, hostOffset: number): number {
    const there = hostOffset < this.source.size ? this.source.read(target, hostOffset) : 0;
    target.fill(0, there);
    return target.length;
  }

  extentAt(hostOffset: number): { readonly length: number; readonly data: boolean } {
    return hostOffset < this.source.size ? this.source.extentAt(hostOffset) : { length: this.size - hostOffset, data: false };
  }

  close(): void {
    // The source belongs to whoever opened it.
  }
}
