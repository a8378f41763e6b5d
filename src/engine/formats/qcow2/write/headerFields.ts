import type { Storage } from '../../../io/storage';
import { readAvailable } from '../../../io/source';
import { Decoded, encode } from '../../../layout/codec';
import type { Qcow2Metadata } from '../metadata';
import { QCOW2_HEADER, V2_HEADER_LENGTH } from '../structures';
import { wait, type Steps } from './steps';

export type HeaderField = (typeof QCOW2_HEADER.fields)[number]['name'];

/**
 * Changes fixed fields of the header of an image in use. They lie in one sector, which a disk keeps or loses as a whole; what follows them
 * stays as it is.
 */
export class HeaderFields {
  private readonly storage: Storage;
  private bytes: Uint8Array;
  private unsure = false;

  constructor(storage: Storage, { version, headerLength }: Pick<Qcow2Metadata, 'version' | 'headerLength'>) {
    this.storage = storage;
    this.bytes = readAvailable(storage, 0, version === 2 ? V2_HEADER_LENGTH : Math.min(headerLength, QCOW2_HEADER.length));
  }

  /** The header was written by someone else. */
  reload({ version, headerLength }: Pick<Qcow2Metadata, 'version' | 'headerLength'>): void {
    this.bytes = readAvailable(this.storage, 0, version === 2 ? V2_HEADER_LENGTH : Math.min(headerLength, QCOW2_HEADER.length));
  }

  bigint(name: HeaderField): bigint {
    return new Decoded(QCOW2_HEADER, this.bytes).bigint(name);
  }

  /** @throws EngineError `file.io`; the header in memory is then as before */
  *update(changes: Partial<Record<HeaderField, bigint | number>>): Steps<void> {
    const decoded = new Decoded(QCOW2_HEADER, this.bytes);
    const values: Partial<Record<HeaderField, bigint | number | Uint8Array>> = {};
    for (const { name, kind } of QCOW2_HEADER.fields) {
      values[name] = kind === 'bytes' ? decoded.value(name) : decoded.bigint(name);
    }
    const next = encode(QCOW2_HEADER, { ...values, ...changes }).subarray(0, this.bytes.length);
    try {
      yield* wait(this.storage.write(next, 0));
    } catch (error) {
      this.unsure = true;
      throw error;
    }
    this.bytes = next;
    this.unsure = false;
  }

  /** After a write that failed a part of the new header may stand there: sees to it that the old one does. */
  *settle(): Steps<void> {
    if (this.unsure) {
      yield* wait(this.storage.write(this.bytes, 0));
      this.unsure = false;
    }
  }
}
