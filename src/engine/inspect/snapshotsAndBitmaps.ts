import type { BitmapDetail, Notice, SnapshotDetail, SnapshotsAndBitmaps, StructureView } from '../../protocol/inspect';
import type { Qcow2Bitmap } from '../formats/qcow2/bitmaps';
import type { Qcow2Snapshot } from '../formats/qcow2/snapshots';
import { AUTOCLEAR } from '../formats/qcow2/structures';
import { readAvailable } from '../io/source';
import type { Pace } from '../pace';
import { countMarked, MarkBudget } from './bitmapCount';
import { bytesField, bytesValue, problemNotice, structureView } from './fieldView';
import type { Qcow2Context } from './qcow2Context';
import { dateText, exactSize, humanSize, visible } from './wording';

const NONE: SnapshotsAndBitmaps = { snapshots: [], bitmaps: [], notices: [] };

/** Every internal snapshot and persistent bitmap, field by field; counts the bits of each bitmap. */
export async function snapshotsAndBitmaps(context: Qcow2Context | null, pace: Pace): Promise<SnapshotsAndBitmaps> {
  if (!context?.metadata.tablesReadable) {
    return NONE;
  }
  const { snapshots, problems } = context.snapshots;
  const directory = context.bitmaps;
  const bitmaps: BitmapDetail[] = [];
  const notices: Notice[] = [...problems, ...directory.problems].map((problem) => problemNotice(problem));
  if (directory.extension && (context.metadata.autoclearFeatures & AUTOCLEAR.bitmaps) === 0n) {
    notices.push({
      severity: 'warning',
      message: 'The bitmaps feature bit is not set: a program that knows no bitmaps wrote the image, and QEMU ignores the bitmaps.',
      place: { kind: 'host', hostOffset: context.metadata.header.field('autoclear_features').offset, length: 8 },
    });
  }
  const budget = new MarkBudget();
  for (const bitmap of directory.bitmaps) {
    const marked = await countMarked(context.metadata, bitmap, context.view({ kind: 'active' }).guestSize, budget, pace);
    bitmaps.push({ index: bitmap.index, name: visible(bitmap.name), markedBytes: marked, structure: bitmapView(context, bitmap) });
  }
  if (budget.exhausted) {
    notices.push({
      severity: 'warning',
      message: 'The bitmaps are larger than any that QEMU writes; not all bits were counted.',
      place: null,
    });
  }
  return { bitmaps, notices, snapshots: snapshots.map((snapshot) => snapshotDetail(context, snapshot)) };
}

/** A snapshot's entry: the fixed part, the extra data, identifier and name. */
export function snapshotView(context: Qcow2Context, snapshot: Qcow2Snapshot): StructureView {
  const { source } = context.metadata;
  const { index, hostOffset, fields, extra, extraDataSize, id, name } = snapshot;
  const ours = context.snapshots.problems.filter(
    (problem) => problem.hostOffset >= hostOffset && problem.hostOffset < hostOffset + snapshot.length,
  );
  const head = structureView(fields, {
    id: `snapshot.${index}`,
    title: `snapshot table entry ${index}`,
    hostOffset,
    fileSize: source.size,
    problems: ours,
    explain: {
      l1_size: `maps up to ${humanSize(snapshot.l1Size * context.metadata.l2Coverage)}`,
      vm_clock_nsec: uptime(snapshot.vmClockNsec),
      id_str_size: 'bytes',
      name_size: 'bytes',
      extra_data_size: 'bytes',
    },
  });
  const extraOffset = hostOffset + fields.structure.length;
  const extraView = extra
    ? structureView(extra, {
        id: '',
        title: '',
        hostOffset: extraOffset,
        fileSize: source.size,
        has: (field) => field.offset + 8 <= extraDataSize,
        explain: snapshot.icount === null ? { icount: 'not recorded' } : {},
      }).fields
    : [];
  const known = extra?.structure.length ?? 0;
  const unknown = extraDataSize > known && extra ? readAvailable(source, extraOffset + known, extraDataSize - known) : new Uint8Array(0);
  const idOffset = extraOffset + extraDataSize;
  const idBytes = readAvailable(source, idOffset, fields.number('id_str_size'));
  const nameOffset = idOffset + fields.number('id_str_size');
  const nameBytes = readAvailable(source, nameOffset, fields.number('name_size'));
  return {
    ...head,
    length: snapshot.length,
    fields: [
      ...head.fields,
      ...extraView,
      ...(unknown.length > 0
        ? [
            bytesField('unknown extra data', extraOffset + known, unknown, {
              value: bytesValue(unknown),
              meaning: 'Extra data of a version not known here.',
            }),
          ]
        : []),
      bytesField('unique id', idOffset, idBytes, { value: visible(id), meaning: 'Identifier that no other snapshot of the image has.' }),
      bytesField('name', nameOffset, nameBytes, { value: visible(name), meaning: 'Name that a person gave to the snapshot.' }),
    ],
  };
}

/** A bitmap's directory entry: the fixed part, extra data and name. */
export function bitmapView(context: Qcow2Context, bitmap: Qcow2Bitmap): StructureView {
  const { source } = context.metadata;
  const { index, hostOffset, fields, granularity } = bitmap;
  const head = structureView(fields, {
    id: `bitmap.${index}`,
    title: `bitmap directory entry ${index}`,
    hostOffset,
    fileSize: source.size,
    problems: context.bitmaps.problems.filter(
      (problem) => problem.hostOffset >= hostOffset && problem.hostOffset < hostOffset + bitmap.length,
    ),
    explain: {
      granularity_bits: Number.isFinite(granularity) ? `${exactSize(granularity)} of the disk per bit` : 'out of range',
      bitmap_table_size: `entries, ${exactSize(bitmap.tableEntries * context.metadata.clusterSize)} of bits`,
      name_size: 'bytes',
      extra_data_size: 'bytes',
    },
    places: bitmap.tableEntries > 0 ? { bitmap_table_offset: { kind: 'tableRow', table: { kind: 'bitmapTable', index }, row: 0 } } : {},
  });
  const extraOffset = hostOffset + fields.structure.length;
  const extra = readAvailable(source, extraOffset, Math.min(fields.number('extra_data_size'), bitmap.length));
  const nameOffset = extraOffset + fields.number('extra_data_size');
  const name = readAvailable(source, nameOffset, fields.number('name_size'));
  return {
    ...head,
    length: bitmap.length,
    fields: [
      ...head.fields,
      ...(extra.length > 0
        ? [bytesField('extra data', extraOffset, extra, { value: bytesValue(extra), meaning: 'Data for a type of bitmap not known here.' })]
        : []),
      bytesField('name', nameOffset, name, { value: visible(bitmap.name), meaning: 'Name that a person or program gave to the bitmap.' }),
    ],
  };
}

function snapshotDetail(context: Qcow2Context, snapshot: Qcow2Snapshot): SnapshotDetail {
  const { index, id, name, dateSec, vmStateSize, diskSize } = snapshot;
  const state = vmStateSize > 0 ? `, VM state ${humanSize(vmStateSize)}` : '';
  const summary = `${visible(id)} '${visible(name)}', ${dateText(dateSec)}, disk ${humanSize(diskSize)}${state}`;
  return { index, summary, structure: snapshotView(context, snapshot) };
}

/** qemu-img's `VM CLOCK`: hours, minutes, seconds and milliseconds. */
function uptime(nanoseconds: bigint): string {
  const milliseconds = nanoseconds / 1_000_000n;
  const two = (value: bigint) => value.toString().padStart(2, '0');
  const seconds = milliseconds / 1000n;
  return `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}.${(milliseconds % 1000n).toString().padStart(3, '0')}`;
}
