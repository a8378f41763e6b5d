import type { TableRow, TableShape } from '../../src/protocol/inspect';
import type { Copies } from '../components/copy-menu';
import { spacedHex } from '../format/bytes';
import { asJson, mapCommand, readCommand, rowAsText } from '../format/copies';
import { grouped } from '../format/numbers';

/** What can be copied of a row, with the commands of QEMU's tools that show the same. */
export function copiesOfRow(row: TableRow, shape: TableShape, path: string): Copies {
  const commands: string[] = [];
  if (shape.table.kind === 'l2' && shape.table.view.kind === 'active' && row.guestOffset !== null) {
    commands.push(mapCommand(path, row.guestOffset, row.targetLength ?? 512));
  }
  if (row.hostOffset !== null && row.rawHex !== '') {
    commands.push(readCommand(path, row.hostOffset, row.rawHex.length / 2));
  }
  return {
    what: `row ${grouped(row.row)} of the ${shape.title}`,
    text: () => rowAsText(row),
    hex: row.rawHex === '' ? null : () => spacedHex(row.rawHex),
    json: () => asJson(row),
    commands,
  };
}
