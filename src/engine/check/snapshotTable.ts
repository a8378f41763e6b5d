import { Decoded } from '../layout/codec';
import { decodeText } from '../formats/qcow2/metadata';
import { LIMITS, SNAPSHOT_ENTRY } from '../formats/qcow2/structures';
import { readAvailable } from '../io/source';
import { hex, type Findings, type FindingText } from './findings';
import { INT64_MAX, MAX_FILE_LENGTH, type CheckedImage } from './opening';
import { readInto } from './padded';

/** A snapshot as far as a check needs it. */
export interface CheckedSnapshot {
  readonly index: number;
  readonly l1TableOffset: bigint;
  readonly l1Size: number;
}

export interface CheckedSnapshots {
  /** Those whose L1 table can be walked. */
  readonly snapshots: readonly CheckedSnapshot[];
  readonly tableOffset: bigint;
  /** Bytes of the table without the last entry's padding, as QEMU counts them. */
  readonly tableLength: number;
  /** Set when QEMU gives up here. */
  readonly failure: string | null;
}

/** vm_state_size_large and disk_size: what version 3 wants of an entry's extra data. */
const NEEDED_EXTRA_BYTES = 16;

/** Reads the snapshot table the way a check does: strict in its lengths, reading zeroes past the end of the file. */
export function readSnapshotsForCheck(image: CheckedImage, findings: Findings): CheckedSnapshots {
  const { header, version, hasDataFile, nbSnapshots: count } = image.metadata;
  const tableOffset = header.bigint('snapshots_offset');
  const pointer = header.field('snapshots_offset').offset;
  const giveUp = (failure: string, message: string, hostOffset: number): CheckedSnapshots => {
    findings.add('snapshotTable', 'checkError', () => ({
      ...about(hostOffset, message),
      consequence: 'The image cannot be checked: what its snapshots use is not known, and no tool can apply or delete them.',
    }));
    return { snapshots: [], tableOffset, tableLength: 0, failure };
  };
  if (count > LIMITS.maxSnapshots) {
    const at = header.field('nb_snapshots').offset;
    return giveUp('File too large', `The header announces ${count} snapshots; there can be ${LIMITS.maxSnapshots}.`, at);
  }
  if (tableOffset + BigInt(count * SNAPSHOT_ENTRY.length) > INT64_MAX || tableOffset % BigInt(image.clusterSize) !== 0n) {
    return giveUp('Invalid argument', `The snapshot table offset ${hex(tableOffset)} is not a valid cluster offset.`, pointer);
  }

  const snapshots: CheckedSnapshot[] = [];
  const bytes = new Uint8Array(SNAPSHOT_ENTRY.length);
  let length = 0;
  for (let index = 0; index < count; index++) {
    const entryOffset = tableOffset + BigInt(Math.ceil(length / 8) * 8);
    const place = Number(entryOffset);
    if (entryOffset + BigInt(bytes.length) > MAX_FILE_LENGTH) {
      return giveUp('Input/output error', `The snapshot table at ${hex(tableOffset)} lies past the end of any file.`, pointer);
    }
    readInto(image.metadata.source, bytes, entryOffset);
    const entry = new Decoded(SNAPSHOT_ENTRY, bytes);
    const extra = entry.number('extra_data_size');
    const idSize = entry.number('id_str_size');
    const nameSize = entry.number('name_size');
    if (extra > LIMITS.maxSnapshotExtraBytes) {
      const message = `Snapshot table entry ${index} at ${hex(place)} claims ${extra} bytes of extra data; there can be ${LIMITS.maxSnapshotExtraBytes}.`;
      return giveUp('File too large', message, place + entry.field('extra_data_size').offset);
    }
    length = Math.ceil(length / 8) * 8 + bytes.length + extra + idSize + nameSize;
    if (length > LIMITS.maxSnapshotTableBytes) {
      return giveUp('File too large', `The snapshot table at ${hex(tableOffset)} is larger than 64 MiB.`, place);
    }
    const title = (): string => `Snapshot ${index} "${nameAt(image, place + bytes.length + extra + idSize, nameSize)}"`;
    if (version >= 3 && extra < NEEDED_EXTRA_BYTES) {
      findings.add('snapshotTable', 'corruption', () => ({
        message: `${title()} at ${hex(place)} has ${extra} bytes of extra data; version 3 needs ${NEEDED_EXTRA_BYTES}.`,
        consequence: 'The disk size at the time of the snapshot is not recorded; applying it may give a disk of the wrong size.',
        place: { kind: 'snapshot', index },
        cluster: null,
        guest: null,
      }));
    }
    const snapshot = { index, l1TableOffset: entry.bigint('l1_table_offset'), l1Size: entry.number('l1_size') };
    const broken = brokenL1(snapshot, image);
    if (broken === null) {
      snapshots.push(snapshot);
      continue;
    }
    findings.add('snapshotTable', 'corruption', () => ({
      message: `${title()} at ${hex(place)}: ${broken}`,
      consequence: 'The snapshot cannot be used, and what only it uses is counted as leaked.',
      place: { kind: 'snapshot', index },
      cluster: null,
      guest: null,
    }));
  }
  if (hasDataFile && count > 0) {
    findings.add('snapshotTable', 'corruption', () => ({
      ...about(pointer, `The image has ${count} internal snapshots although its data lies in an external file.`),
      consequence: 'Writes go to the external file in place: what the snapshots should keep is overwritten.',
    }));
  }
  return { snapshots, tableOffset, tableLength: length, failure: null };
}

function brokenL1({ l1TableOffset, l1Size }: CheckedSnapshot, { clusterSize }: CheckedImage): string | null {
  if (l1TableOffset % BigInt(clusterSize) !== 0n) {
    return `its L1 table offset ${hex(l1TableOffset)} is not aligned to a cluster.`;
  }
  if (l1Size > LIMITS.maxL1Bytes / 8) {
    return `its L1 table of ${l1Size} entries is too large (limit ${LIMITS.maxL1Bytes / 8}).`;
  }
  return null;
}

function about(hostOffset: number, message: string): Omit<FindingText, 'consequence'> {
  return { message, place: { kind: 'host', hostOffset }, cluster: null, guest: null };
}

function nameAt({ metadata }: CheckedImage, hostOffset: number, length: number): string {
  return decodeText(readAvailable(metadata.source, hostOffset, length));
}
