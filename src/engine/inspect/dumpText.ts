import type { StructureView, TableRow } from '../../protocol/inspect';
import { hex } from './wording';

/* How structures and table rows are printed: text in columns, JSON with qemu-img's spelling of keys. */

const NAME_WIDTH = 26;
const RAW_WIDTH = 18;

/** One structure, a field a line: offset, name, bytes, value. */
export function structureText({ title, hostOffset, length, fields, problems }: StructureView): string {
  const lines = [`${title} at ${hex(hostOffset)}, ${length} bytes`];
  for (const field of fields) {
    const raw = field.rawHex.length > RAW_WIDTH ? `${field.rawHex.slice(0, RAW_WIDTH - 1)}…` : field.rawHex;
    lines.push(`  ${hex(field.hostOffset).padEnd(10)} ${field.name.padEnd(NAME_WIDTH)} ${raw.padEnd(RAW_WIDTH)} ${field.value}`.trimEnd());
    if (field.problem !== null) {
      lines.push(`    ! ${field.problem}`);
    }
  }
  return `${[...lines, ...problems.map(({ message }) => `  ! ${message}`)].join('\n')}\n`;
}

export function structureJson({ title, hostOffset, length, fields, problems }: StructureView): object {
  return {
    title,
    offset: hostOffset,
    length,
    fields: fields.map((field) => ({
      name: field.name,
      offset: field.hostOffset,
      length: field.length,
      raw: field.rawHex,
      value: field.value,
      ...(field.bits.length > 0 ? { bits: field.bits.filter(({ set }) => set).map(({ bit, name, known }) => ({ bit, name, known })) } : {}),
      ...(field.problem === null ? {} : { problem: field.problem }),
    })),
    ...(problems.length > 0 ? { problems: problems.map(({ severity, message }) => ({ severity, message })) } : {}),
  };
}

export const TABLE_HEADING = 'entry          at             bytes              kind           leads to         flags';

/** One row of a table: number, place, bytes, kind, where it leads, flags. */
export function rowText(row: TableRow): string {
  const columns = [
    `${row.row}`.padEnd(14),
    (row.hostOffset === null ? '-' : hex(row.hostOffset)).padEnd(14),
    row.rawHex.padEnd(RAW_WIDTH),
    row.kind.padEnd(14),
    (row.targetOffset === null ? '-' : hex(row.targetOffset)).padEnd(16),
    [...row.flags, ...subclusters(row)].join(', '),
  ];
  return `${columns.join(' ').trimEnd()}${row.problem === null ? '' : `\n    ! ${row.problem}`}`;
}

function subclusters({ subclusters: bits }: TableRow): string[] {
  return bits ? [`allocated ${hex(bits.allocated)}`, `zero ${hex(bits.zero)}`] : [];
}

export function rowJson(row: TableRow): object {
  return {
    entry: row.row,
    ...(row.hostOffset === null ? {} : { offset: row.hostOffset, raw: row.rawHex }),
    kind: row.kind,
    ...(row.guestOffset === null ? {} : { 'guest-offset': row.guestOffset }),
    ...(row.targetOffset === null ? {} : { 'target-offset': row.targetOffset }),
    ...(row.targetLength === null ? {} : { 'target-length': row.targetLength }),
    ...(row.refcount === null ? {} : { refcount: row.refcount }),
    ...(row.flags.length > 0 ? { flags: row.flags } : {}),
    ...(row.subclusters ? { subclusters: row.subclusters } : {}),
    ...(row.problem === null ? {} : { problem: row.problem }),
  };
}
