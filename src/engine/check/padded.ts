import type { ByteSource } from '../io/source';

/**
 * Fills `target` from `hostOffset` on; what lies past the end of the file reads as zero, as QEMU has it. The offset may be past 2^53.
 * @throws EngineError `file.io`
 */
export function readInto(source: ByteSource, target: Uint8Array, hostOffset: number | bigint): void {
  const count = hostOffset < source.size ? source.read(target, Number(hostOffset)) : 0;
  if (count < target.length) {
    target.fill(0, count);
  }
}
