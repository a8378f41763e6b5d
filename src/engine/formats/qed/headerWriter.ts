import { after, type Awaitable } from '../../awaitable';
import { invalidRequest, unsupportedRequest } from '../../errors';
import type { Storage } from '../../io/storage';
import { encode } from '../../layout/codec';
import type { QedMetadata } from './metadata';
import { QED_FEATURE, QED_HEADER } from './structures';

type FieldName = (typeof QED_HEADER.fields)[number]['name'];

/** A disk keeps or loses a sector as a whole. */
const SECTOR = 512;
const MAX_NAME = 1023;

/** Changes the header of an image that is in use. Fields nobody here knows stay as they are, and so does what lies behind the header. */
export class QedHeaderWriter {
  private readonly storage: Storage;
  private readonly headerBytes: number;
  private readonly values = new Map<FieldName, bigint>();

  constructor(storage: Storage, metadata: QedMetadata) {
    this.storage = storage;
    this.headerBytes = metadata.headerBytes;
    for (const { name } of QED_HEADER.fields) {
      this.values.set(name, metadata.header.bigint(name));
    }
  }

  get needCheck(): boolean {
    return (this.value('features') & QED_FEATURE.needCheck) !== 0n;
  }

  get hasUnknownAutoclear(): boolean {
    // None are known.
    return this.value('autoclear_features') !== 0n;
  }

  /** @throws EngineError `file.io`, `file.full` */
  setNeedCheck(on: boolean): Awaitable<void> {
    const features = this.value('features') & ~QED_FEATURE.needCheck;
    return this.change({ features: on ? features | QED_FEATURE.needCheck : features });
  }

  /** A writer that does not know these features may spoil what they stand for. @throws EngineError `file.io`, `file.full` */
  clearAutoclear(): Awaitable<void> {
    return this.change({ autoclear_features: 0n });
  }

  /** @throws EngineError `file.io`, `file.full` */
  setSize(size: number): Awaitable<void> {
    return this.change({ image_size: BigInt(size) });
  }

  /**
   * Writes another backing file's name, or none. The old name is whole on the disk until the new one is.
   * @param format only that it is raw can be recorded
   * @throws EngineError `request.invalid`, `request.unsupported`, `file.io`
   */
  async setBacking(name: string | null, format: string | null): Promise<void> {
    if (this.value('compat_features') !== 0n) {
      // Somebody's feature may live where the name would go.
      throw unsupportedRequest(`${this.storage.name}: The header has features that are not known; its backing file name cannot change.`);
    }
    const features = this.value('features') & ~(QED_FEATURE.backingFile | QED_FEATURE.backingFormatNoProbe);
    if (name === null || name === '') {
      await this.change({ features, backing_filename_offset: 0n, backing_filename_size: 0n });
      await this.storage.flush();
      return;
    }
    const bytes = backingName(name);
    const place = this.placeFor(bytes.length);
    if (place === null) {
      throw invalidRequest(`${this.storage.name}: The header of ${this.headerBytes} bytes has no room for the name of its backing file.`);
    }
    const changed = {
      features: features | QED_FEATURE.backingFile | (format === 'raw' ? QED_FEATURE.backingFormatNoProbe : 0n),
      backing_filename_offset: BigInt(place),
      backing_filename_size: BigInt(bytes.length),
    };
    if (place + bytes.length <= SECTOR) {
      // Header and name are one sector, and change as one.
      const sector = new Uint8Array(place + bytes.length);
      sector.set(bytes, place);
      await this.change(changed, sector);
    } else {
      await this.storage.write(bytes, place);
      await this.storage.flush();
      await this.change(changed);
    }
    await this.storage.flush();
  }

  /** Right behind the header if it fits the header's sector, else where the current name does not lie. */
  private placeFor(length: number): number | null {
    const start = QED_HEADER.length;
    if (start + length <= Math.min(SECTOR, this.headerBytes)) {
      return start;
    }
    const named = (this.value('features') & QED_FEATURE.backingFile) !== 0n;
    const usedFrom = Number(this.value('backing_filename_offset'));
    const usedTo = usedFrom + Number(this.value('backing_filename_size'));
    const behind = Math.ceil((named ? Math.max(SECTOR, usedTo) : SECTOR) / SECTOR) * SECTOR;
    const candidates = [SECTOR, behind];
    const free = (place: number) =>
      place + length <= this.headerBytes && (!named || place + length <= Math.floor(usedFrom / SECTOR) * SECTOR || place >= usedTo);
    return candidates.find(free) ?? null;
  }

  /** @param sector takes the header at its start, and is written with it */
  private change(changed: Partial<Record<FieldName, bigint>>, sector = new Uint8Array(QED_HEADER.length)): Awaitable<void> {
    const next = { ...Object.fromEntries(this.values), ...changed };
    sector.set(encode(QED_HEADER, next));
    return after(this.storage.write(sector, 0), () => {
      for (const [name, value] of Object.entries(next)) {
        this.values.set(name as FieldName, value);
      }
    });
  }

  private value(name: FieldName): bigint {
    return this.values.get(name) ?? 0n;
  }
}

/** @throws EngineError `request.invalid` for a name longer than a header can hold */
export function backingName(name: string): Uint8Array {
  const bytes = new TextEncoder().encode(name);
  if (bytes.length > MAX_NAME) {
    throw invalidRequest(`The name of the backing file has ${bytes.length} bytes; at most ${MAX_NAME} can be recorded.`);
  }
  return bytes;
}
