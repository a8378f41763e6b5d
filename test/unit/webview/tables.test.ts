import { describe, expect, it } from 'vitest';
import type { EntryDeclaration, TableRow, TableShape } from '../../../src/protocol/inspect';
import type { LayerView } from '../../../src/protocol/place';
import { ACTIVE, describePlace, naturalTab, sameView, tableKey } from '../../../webview/state/places';
import { decoded } from '../../../webview/tables/entry-bits';
import { childrenOf, parentOf } from '../../../webview/tables/family';

const L2_BITS: EntryDeclaration = {
  title: 'L2 table entry',
  kinds: null,
  littleEndian: false,
  bits: [
    { name: 'OFLAG_ZERO', lowBit: 0, width: 1, show: 'flag', meaning: 'Reads as zeroes.' },
    { name: 'reserved', lowBit: 1, width: 8, show: 'reserved', meaning: 'Zero.' },
    { name: 'host_cluster_offset', lowBit: 9, width: 47, show: 'hostOffset', meaning: 'Where the data lies.' },
    { name: 'OFLAG_COPIED', lowBit: 63, width: 1, show: 'flag', meaning: 'Refcount one.' },
    { name: 'allocated', lowBit: 64, width: 32, show: 'hex', meaning: 'Subclusters.' },
  ],
};

function shape(
  kind: 'l1' | 'l2' | 'refcountTable' | 'refcounts',
  rows: number,
  rowsPerParent: number,
  view: LayerView = ACTIVE,
): TableShape {
  const table = kind === 'l1' || kind === 'l2' ? { kind, view } : { kind };
  return { table, title: kind, rows, rowsPerParent, entries: [L2_BITS] };
}

function row(rawHex: string, kind = 'data'): TableRow {
  return {
    row: 0,
    hostOffset: 0,
    rawHex,
    kind,
    target: null,
    guestOffset: null,
    targetOffset: null,
    targetLength: null,
    flags: [],
    subclusters: null,
    refcount: null,
    problem: null,
  };
}

describe('an entry taken apart', () => {
  it('shows each declared range; an offset keeps its weight', () => {
    const bits = decoded(row('8000000000050000'), shape('l2', 10, 5));
    expect(bits.map(({ name, range, value }) => `${name} ${range} ${value}`)).toEqual([
      'OFLAG_ZERO 0 0',
      'host_cluster_offset 9-55 0x50000',
      'OFLAG_COPIED 63 1',
    ]);
  });

  it('shows reserved bits only when they are set, as wrong', () => {
    const bits = decoded(row('8000000000050006'), shape('l2', 10, 5));
    expect(bits.filter(({ wrong }) => wrong)).toEqual([{ name: 'reserved', range: '1-8', value: '0x3', meaning: 'Zero.', wrong: true }]);
  });

  it('counts bits on into a second word', () => {
    const bits = decoded(row('8000000000050000ffffffff00000003'), shape('l2', 10, 5));
    expect(bits.at(-1)).toMatchObject({ name: 'allocated', range: '64-95', value: '0x3' });
  });

  it('reads little-endian words, and entries shorter than a word', () => {
    const little: TableShape = { ...shape('l1', 1, 0), entries: [{ ...L2_BITS, littleEndian: true }] };
    expect(decoded(row('0000050000000080'), little).map(({ value }) => value)).toEqual(['0', '0x50000', '1']);
    const refcount: EntryDeclaration = {
      title: 'refcount',
      kinds: null,
      littleEndian: false,
      bits: [{ name: 'refcount', lowBit: 0, width: 16, show: 'number', meaning: '' }],
    };
    expect(decoded(row('0102'), { ...shape('refcounts', 1, 0), entries: [refcount] })[0]?.value).toBe('258');
  });

  it('takes the declaration that is for the kind of row', () => {
    const compressed: EntryDeclaration = { ...L2_BITS, kinds: ['compressed'], bits: [] };
    const both: TableShape = { ...shape('l2', 1, 0), entries: [compressed, L2_BITS] };
    expect([decoded(row('8000000000050000', 'compressed'), both).length, decoded(row('8000000000050000'), both).length]).toEqual([0, 3]);
  });

  it('has nothing to show where no table is allocated', () => {
    expect(decoded(row(''), shape('l2', 1, 0))).toEqual([]);
  });
});

describe('tables above and below', () => {
  const l1 = shape('l1', 8, 0);
  const l2 = shape('l2', 65_536, 8192);
  const refcountTable = shape('refcountTable', 8192, 0);
  const refcounts = shape('refcounts', 217, 32_768);

  it('lead from an L2 entry to its L1 entry and back', () => {
    expect(parentOf(l2, 8193)).toEqual({ kind: 'tableRow', table: l1.table, row: 1 });
    expect(childrenOf(l1, 1, [l1, l2])).toEqual({ kind: 'tableRow', table: l2.table, row: 8192 });
  });

  it('stay in the same mapping', () => {
    const view: LayerView = { kind: 'snapshot', index: 1 };
    expect(childrenOf(shape('l1', 8, 0, view), 0, [l1, l2])).toBeNull();
    expect(parentOf(shape('l2', 10, 5, view), 7)).toEqual({ kind: 'tableRow', table: { kind: 'l1', view }, row: 1 });
  });

  it('lead from a refcount to its table entry; entries past the last refcount lead nowhere', () => {
    expect(parentOf(refcounts, 100)).toEqual({ kind: 'tableRow', table: { kind: 'refcountTable' }, row: 0 });
    expect([childrenOf(refcountTable, 0, [refcounts])?.kind, childrenOf(refcountTable, 1, [refcounts])]).toEqual(['tableRow', null]);
    expect([parentOf(l1, 3), childrenOf(l2, 3, [l1, l2])]).toEqual([null, null]);
  });
});

describe('places', () => {
  it('have a tab where they are at home, and words', () => {
    expect(
      [
        { kind: 'host', hostOffset: 65536 } as const,
        { kind: 'guest', guestOffset: 65536 } as const,
        { kind: 'tableRow', table: { kind: 'l2', view: ACTIVE }, row: 1234 } as const,
        { kind: 'snapshot', index: 1 } as const,
      ].map((place) => [naturalTab(place), describePlace(place)]),
    ).toEqual([
      ['hex', 'host offset 0x10000'],
      ['map', 'guest offset 0x10000'],
      ['tables', 'L2 entry 1,234'],
      ['snapshots', 'snapshot 1'],
    ]);
  });

  it('tell mappings apart', () => {
    const snapshot: LayerView = { kind: 'snapshot', index: 0 };
    expect([sameView(ACTIVE, { kind: 'active' }), sameView(ACTIVE, snapshot), sameView(snapshot, { kind: 'snapshot', index: 1 })]).toEqual([
      true,
      false,
      false,
    ]);
    expect([tableKey({ kind: 'l2', view: snapshot }), tableKey({ kind: 'refcounts' })]).toEqual(['l2:snapshot:0', 'refcounts']);
  });
});
