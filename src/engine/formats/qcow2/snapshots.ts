import { Decoded } from '../../layout/codec';
import { readAvailable } from '../../io/source';
import type { Problem } from '../problem';
import { decodeText, type Qcow2Metadata } from './metadata';
import { LIMITS, SNAPSHOT_ENTRY, SNAPSHOT_EXTRA } from './structures';

export interface Qcow2Snapshot {
  readonly index: number;
  readonly id: string;
  readonly name: string;
  /** Byte offset in the file of its entry, and the entry's whole length in bytes including padding. */
  readonly hostOffset: number;
  readonly length: number;
  readonly fields: Decoded<(typeof SNAPSHOT_ENTRY.fields)[number]['name']>;
  /** Null when the entry has no extra data. */
  readonly extra: Decoded<(typeof SNAPSHOT_EXTRA.fields)[number]['name']> | null;
  readonly extraDataSize: number;
  readonly l1TableOffset: number;
  readonly l1Size: number;
  /** Seconds since 1970, and the nanoseconds of that second. */
  readonly dateSec: number;
  readonly dateNsec: number;
  readonly vmClockNsec: bigint;
  readonly vmStateSize: number;
  /** Virtual disk size when it was taken; the image's own where the entry does not say. */
  readonly diskSize: number;
  /** Null when not recorded. */
  readonly icount: bigint | null;
}

export interface SnapshotTable {
  readonly snapshots: readonly Qcow2Snapshot[];
  /** Bytes of the table that were understood; with the start of an entry in which the file ends. */
  readonly length: number;
  readonly problems: readonly Problem[];
}

const ICOUNT_UNKNOWN = 0xffffffffffffffffn;

/** Reads the snapshot table as far as it makes sense: at most the format's limits, at most what the file holds. */
export function readSnapshotTable(metadata: Qcow2Metadata): SnapshotTable {
  const { source, snapshotsOffset, version } = metadata;
  const count = Math.min(metadata.nbSnapshots, LIMITS.maxSnapshots);
  const snapshots: Qcow2Snapshot[] = [];
  const problems: Problem[] = [];
  const report = (hostOffset: number, message: string, field?: string, severity: Problem['severity'] = 'error') => {
    problems.push({ severity, structure: 'snapshot table', field, hostOffset, message });
  };
  let offset = snapshotsOffset;
  for (let index = 0; index < count; index++) {
    const fields = new Decoded(SNAPSHOT_ENTRY, readAvailable(source, offset, SNAPSHOT_ENTRY.length));
    if (fields.bytes.length < SNAPSHOT_ENTRY.length) {
      report(offset, `The file ends inside entry ${index} of ${metadata.nbSnapshots}.`);
      offset += fields.bytes.length;
      break;
    }
    const extraDataSize = fields.number('extra_data_size');
    if (extraDataSize > LIMITS.maxSnapshotExtraBytes) {
      report(
        offset + 36,
        `Entry ${index} claims ${extraDataSize} bytes of extra data (limit ${LIMITS.maxSnapshotExtraBytes}).`,
        'extra_data_size',
      );
      break;
    }
    if (version >= 3 && extraDataSize < 16) {
      report(
        offset + 36,
        `Entry ${index} has ${extraDataSize} bytes of extra data; version 3 needs at least 16.`,
        'extra_data_size',
        'warning',
      );
    }
    const idSize = fields.number('id_str_size');
    const nameSize = fields.number('name_size');
    const extraOffset = offset + SNAPSHOT_ENTRY.length;
    const idOffset = extraOffset + extraDataSize;
    const text = readAvailable(source, idOffset, idSize + nameSize);
    if (text.length < idSize + nameSize) {
      report(idOffset, `The file ends inside the name of entry ${index}.`);
    }
    const extra =
      extraDataSize > 0
        ? new Decoded(SNAPSHOT_EXTRA, readAvailable(source, extraOffset, Math.min(extraDataSize, SNAPSHOT_EXTRA.length)))
        : null;
    const unpadded = SNAPSHOT_ENTRY.length + extraDataSize + idSize + nameSize;
    const length = Math.ceil(unpadded / 8) * 8;
    const icount = extra?.has('icount') ? extra.bigint('icount') : ICOUNT_UNKNOWN;
    snapshots.push({
      index,
      hostOffset: offset,
      length,
      fields,
      extra,
      extraDataSize,
      id: decodeText(text.subarray(0, idSize)),
      name: decodeText(text.subarray(idSize)),
      l1TableOffset: fields.number('l1_table_offset'),
      l1Size: fields.number('l1_size'),
      dateSec: fields.number('date_sec'),
      dateNsec: fields.number('date_nsec'),
      vmClockNsec: fields.bigint('vm_clock_nsec'),
      vmStateSize: extra?.has('vm_state_size_large') ? extra.number('vm_state_size_large') : fields.number('vm_state_size'),
      diskSize: extra?.has('disk_size') ? extra.number('disk_size') : metadata.size,
      icount: icount === ICOUNT_UNKNOWN ? null : icount,
    });
    offset += length;
    if (offset - snapshotsOffset > LIMITS.maxSnapshotTableBytes) {
      report(offset, 'The snapshot table is larger than 64 MiB.');
      break;
    }
  }
  return { snapshots, length: offset - snapshotsOffset, problems };
}
