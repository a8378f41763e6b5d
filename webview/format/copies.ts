import type { ClusterInspection, FieldView, StructureView, TableRow } from '../../src/protocol/inspect';
import { hexDump, spacedHex } from './bytes';
import { hex } from './numbers';
import { shellQuoted } from './text';

/* What `Copy as ...` puts on the clipboard. */

/** Shows raw bytes of the file with QEMU's own tool. */
export function readCommand(path: string, hostOffset: number, length: number): string {
  return `qemu-io -r -f raw -c 'read -v ${hex(hostOffset)} ${String(length)}' ${shellQuoted(path)}`;
}

/** Shows with QEMU's own tool where a stretch of the virtual disk lies. */
export function mapCommand(path: string, guestOffset: number, length: number): string {
  return `qemu-img map --output=json --start-offset=${String(guestOffset)} --max-length=${String(length)} ${shellQuoted(path)}`;
}

/** Columns padded to their widest cell. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, cell.length)));
  }
  return rows.map((row) => row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join('  ')).join('\n');
}

export function structureAsText(structure: StructureView): string {
  const head = `${structure.title} at ${hex(structure.hostOffset)}, ${String(structure.length)} bytes`;
  return `${head}\n${columns(structure.fields.flatMap(fieldRows))}\n`;
}

function fieldRows(field: FieldView): string[][] {
  const bits = field.bits.filter(({ set }) => set).map(({ bit, name }) => ['', '', '', `bit ${String(bit)}: ${name}`]);
  const problem = field.problem === null ? [] : [['', '', '', `! ${field.problem}`]];
  return [[hex(field.hostOffset), field.name, field.rawHex, field.value], ...bits, ...problem];
}

/** The fields' bytes, a field a line. */
export function structureAsHex(structure: StructureView): string {
  return `${structure.fields.map(({ rawHex }) => spacedHex(rawHex)).join('\n')}\n`;
}

export function asJson(value: unknown): string {
  return `${JSON.stringify(value, (_, part: unknown) => (part instanceof Uint8Array ? Array.from(part) : part), 2)}\n`;
}

export function rowAsText(row: TableRow): string {
  const parts = [
    `row ${String(row.row)}`,
    row.hostOffset === null ? 'no table' : `entry at ${hex(row.hostOffset)}`,
    row.rawHex,
    row.kind,
    row.guestOffset === null ? '' : `guest ${hex(row.guestOffset)}`,
    row.targetOffset === null ? '' : `at ${hex(row.targetOffset)}`,
    row.flags.join(' '),
    row.problem === null ? '' : `! ${row.problem}`,
  ];
  return parts.filter((part) => part !== '').join('  ');
}

export function clusterAsText(cluster: ClusterInspection): string {
  const rows = [
    ['class', cluster.class],
    ...(cluster.guest === null ? [] : [['guest', `${hex(cluster.guest.guestOffset)} + ${String(cluster.guest.length)}`]]),
    ...(cluster.host === null
      ? []
      : [['host', `${hex(cluster.host.hostOffset)} + ${String(cluster.host.length)} in ${cluster.host.path}`]]),
    ...cluster.layers.map((layer) => [
      `layer ${String(layer.depth)}`,
      `${layer.class}${layer.hostOffset === null ? '' : ` at ${hex(layer.hostOffset)}`}  ${layer.path}${layer.supplies ? '  (supplies)' : ''}`,
    ]),
    ...cluster.path.map((entry) => [entry.title, `${hex(entry.hostOffset)}  ${entry.rawHex}  ${entry.decoded}`]),
    ...(cluster.refcount === null ? [] : [['refcount', String(cluster.refcount)]]),
    ...(cluster.references === null ? [] : [['references', String(cluster.references.count)]]),
  ];
  return `${cluster.title}\n${columns(rows)}\n`;
}

export function clusterAsHex(cluster: ClusterInspection): string {
  return cluster.bytes === null ? '' : `${hexDump(cluster.bytes, cluster.host?.hostOffset ?? cluster.guest?.guestOffset ?? 0)}\n`;
}
