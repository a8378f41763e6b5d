import type { Awaitable } from '../../../src/engine/awaitable';
import type { Storage, StoragePreallocation } from '../../../src/engine/io/storage';
import { MemoryStorage } from './memoryStorage';
import { WrappedStorage } from './wrappedStorage';

/** What a disk was told, in order. */
export type Recorded =
  | { readonly kind: 'write'; readonly hostOffset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'zero'; readonly hostOffset: number; readonly length: number }
  | { readonly kind: 'discard'; readonly hostOffset: number; readonly length: number }
  | { readonly kind: 'truncate'; readonly size: number }
  /** Everything that was accepted before the `accepted`-th operation of the log is on the disk. */
  | { readonly kind: 'flush'; readonly accepted: number };

/** Records everything that changes a file, so that crashes can be replayed. Reads are not recorded. */
export class RecordingStorage extends WrappedStorage {
  readonly log: Recorded[] = [];
  private readonly recorded: () => void;

  /** @param recorded called after each entry of the log, for a log over several files */
  constructor(inner: Storage, recorded: () => void = () => undefined) {
    super(inner);
    this.recorded = recorded;
  }

  override write(bytes: Uint8Array, hostOffset: number): Awaitable<void> {
    this.note({ kind: 'write', hostOffset, bytes: bytes.slice() });
    return super.write(bytes, hostOffset);
  }

  override writeZeroes(hostOffset: number, length: number, options?: { readonly unmap?: boolean }): Awaitable<void> {
    this.note({ kind: 'zero', hostOffset, length });
    return super.writeZeroes(hostOffset, length, options);
  }

  override discard(hostOffset: number, length: number): Awaitable<void> {
    this.note({ kind: 'discard', hostOffset, length });
    return super.discard(hostOffset, length);
  }

  override truncate(size: number, preallocation?: StoragePreallocation): Awaitable<void> {
    this.note({ kind: 'truncate', size });
    return super.truncate(size, preallocation);
  }

  override async flush(): Promise<void> {
    const accepted = this.log.length;
    await super.flush();
    this.note({ kind: 'flush', accepted });
  }
  private note(entry: Recorded): void {
    this.log.push(entry);
    this.recorded();
  }
}

/** The unit that a disk writes as a whole. */
const SECTOR = 512;

/**
 * The file as a loss of power may leave it after the first `count` operations of a log: everything that a flush among them covers, and of
 * the rest what `keep` says, sector by sector for writes.
 * @param keep gets the operation's index in the log
 */
export function crashed(start: Uint8Array, log: readonly Recorded[], count: number, keep: (index: number) => boolean): Uint8Array {
  const durable = log.slice(0, count).reduce((most, entry) => (entry.kind === 'flush' ? Math.max(most, entry.accepted) : most), 0);
  const file = new MemoryStorage(start);
  for (const [index, entry] of log.slice(0, count).entries()) {
    const certain = index < durable;
    switch (entry.kind) {
      case 'flush':
        break;
      case 'write':
        applyWrite(file, entry.bytes, entry.hostOffset, () => certain || keep(index));
        break;
      case 'zero':
      case 'discard':
        if (certain || keep(index)) {
          const length = entry.kind === 'zero' ? entry.length : Math.min(entry.length, file.size - entry.hostOffset);
          applyWrite(file, new Uint8Array(Math.max(0, length)), entry.hostOffset, () => true);
        }
        break;
      case 'truncate':
        if (certain || keep(index)) {
          void file.truncate(entry.size);
        }
    }
  }
  return file.bytes;
}

/** Every state that a kill of the process (not of the machine) leaves: all operations up to each point. */
export function* prefixes(start: Uint8Array, log: readonly Recorded[]): Generator<Uint8Array> {
  for (let count = 0; count <= log.length; count++) {
    if (log[count - 1]?.kind !== 'flush') {
      yield crashed(start, log, count, () => true);
    }
  }
}

function applyWrite(file: MemoryStorage, bytes: Uint8Array, hostOffset: number, keep: () => boolean): void {
  for (let at = 0; at < bytes.length;) {
    const length = Math.min(bytes.length - at, SECTOR - ((hostOffset + at) % SECTOR));
    if (keep()) {
      void file.write(bytes.subarray(at, at + length), hostOffset + at);
    }
    at += length;
  }
}
