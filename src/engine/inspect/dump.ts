import type { StructureView } from '../../protocol/inspect';
import type { LayerView, TableId } from '../../protocol/place';
import { invalidRequest } from '../errors';
import { Pace, type PaceOptions } from '../pace';
import { rowJson, rowText, structureJson, structureText, TABLE_HEADING } from './dumpText';
import type { Inspector } from './inspector';
import { structuresOf } from './overview/overview';
import { bitmapView, snapshotView } from './snapshotsAndBitmaps';
import { MAX_PAGE_ROWS } from './tables/tables';
import { visible } from './wording';

/** What `chainscope dump` can print. */
export const DUMP_NAMES = [
  'header',
  'extensions',
  'luks',
  'snapshots',
  'bitmaps',
  'l1',
  'l2',
  'refcount-table',
  'refcounts',
  'bitmap-table',
] as const;

export type DumpName = (typeof DUMP_NAMES)[number];

export interface DumpTarget {
  readonly name: DumpName;
  /** `l2:5`: of which L1 entry; `refcounts:5`: of which refcount table entry; `bitmap-table:0`: of which bitmap; null: all. */
  readonly index: number | null;
}

export interface DumpOptions extends PaceOptions {
  readonly json: boolean;
  /** Also rows whose entry is zero. */
  readonly all?: boolean | undefined;
  /** Which mapping: the active layer's when left out. */
  readonly view?: LayerView | undefined;
}

/** Reads `l1`, `l2:5`, `header`. @throws EngineError `request.invalid` */
export function parseDumpTarget(text: string): DumpTarget {
  const [, wanted = '', index] = /^([a-z0-9-]+)(?::(\d{1,15}))?$/.exec(text) ?? [];
  const name = DUMP_NAMES.find((candidate) => candidate === wanted);
  if (!name) {
    throw invalidRequest(`'${visible(text)}' names no structure; use one of ${DUMP_NAMES.join(', ')}.`);
  }
  if (index !== undefined && !['l2', 'refcounts', 'bitmap-table'].includes(name)) {
    throw invalidRequest(`'${name}' takes no index.`);
  }
  return { name, index: index === undefined ? null : Number(index) };
}

/**
 * Prints a structure or a table, piece by piece: tables may have millions of rows.
 * @throws EngineError `request.invalid` when the image has no such structure, `cancelled`
 */
export async function* dumpStructure(inspector: Inspector, target: DumpTarget, options: DumpOptions): AsyncGenerator<string> {
  const table = tableOf(target, options.view ?? { kind: 'active' });
  if (table) {
    yield* dumpTable(inspector, table, target, options);
    return;
  }
  const structures = structuresFor(inspector, target.name);
  if (structures.length === 0) {
    throw invalidRequest(`'${inspector.chain.links[0]?.recordedName ?? ''}' has no such structure: ${target.name}.`);
  }
  yield options.json ? `${JSON.stringify(structures.map(structureJson), null, 4)}\n` : structures.map(structureText).join('\n');
}

function structuresFor({ chain, qcow2 }: Inspector, name: DumpName): readonly StructureView[] {
  const layer = chain.layers[0];
  const all = layer ? structuresOf(layer) : [];
  switch (name) {
    case 'header':
      return all.filter(({ id }) => ['header', 'backingFileName', 'descriptor'].includes(id));
    case 'extensions':
      return all.filter(({ id }) => id.startsWith('extension.'));
    case 'luks':
      return all.filter(({ id }) => id.startsWith('luks'));
    case 'snapshots':
      return qcow2 ? qcow2.snapshots.snapshots.map((snapshot) => snapshotView(qcow2, snapshot)) : [];
    case 'bitmaps':
      return qcow2 ? qcow2.bitmaps.bitmaps.map((bitmap) => bitmapView(qcow2, bitmap)) : [];
    default:
      return [];
  }
}

function tableOf({ name, index }: DumpTarget, view: LayerView): TableId | null {
  switch (name) {
    case 'l1':
    case 'l2':
      return { kind: name, view };
    case 'refcount-table':
      return { kind: 'refcountTable' };
    case 'refcounts':
      return { kind: 'refcounts' };
    case 'bitmap-table':
      return { kind: 'bitmapTable', index: index ?? 0 };
    default:
      return null;
  }
}

async function* dumpTable(inspector: Inspector, table: TableId, { name, index }: DumpTarget, options: DumpOptions): AsyncGenerator<string> {
  const { tables } = inspector;
  const pace = new Pace(options);
  const shape = await tables.reader(table).shape(pace);
  const part = index !== null && name !== 'bitmap-table';
  const start = part ? index * shape.rowsPerParent : 0;
  const end = part ? Math.min(start + shape.rowsPerParent, shape.rows) : shape.rows;
  if (start >= end && part) {
    throw invalidRequest(`${shape.title} have no part ${index}.`);
  }
  yield options.json ? '[' : `${shape.title}, ${shape.rows} entries\n${TABLE_HEADING}\n`;
  let separator = '\n';
  for (let row = start; row < end;) {
    if (!options.all) {
      const next = await tables.nextUsedRow(table, row - 1, false, pace);
      row = next < 0 ? end : next;
    }
    const { rows } = tables.page({ table, first: row, count: Math.min(MAX_PAGE_ROWS, end - row) });
    // An entry that is not allocated but has bits set is worth seeing; one that is all zero is not.
    const shown = options.all ? rows : rows.filter(({ rawHex, refcount }) => (refcount === null ? /[^0]/.test(rawHex) : refcount > 0));
    if (shown.length > 0) {
      yield options.json
        ? `${separator}${shown.map((each) => `    ${JSON.stringify(rowJson(each))}`).join(',\n')}`
        : shown.map((each) => `${rowText(each)}\n`).join('');
      separator = ',\n';
    }
    row += Math.max(1, rows.length);
    if (pace.due()) {
      await pace.turn(row - start, end - start);
    }
  }
  if (options.json) {
    yield '\n]\n';
  }
}
