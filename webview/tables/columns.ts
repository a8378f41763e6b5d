import { html, nothing, type TemplateResult } from 'lit';
import type { TableRow, TableShape } from '../../src/protocol/inspect';
import { guestLink, hostLink, placeLink } from '../components/offset-link';
import { icon } from '../components/icons';
import '../components/subcluster-strip';
import { spacedHex } from '../format/bytes';
import { counted, exactly, grouped, hex, size } from '../format/numbers';
import { visible } from '../format/text';
import { decoded } from './entry-bits';

export interface Column {
  readonly id: string;
  readonly label: string;
  /** What it means, for the hover. */
  readonly meaning: string;
  /** A track of a CSS grid. */
  readonly width: string;
  readonly mono?: boolean;
  readonly end?: boolean;
  readonly render: (row: TableRow) => unknown;
  readonly title?: (row: TableRow) => string;
}

const ROW_MEANINGS: Readonly<Record<TableShape['table']['kind'], string>> = {
  l1: 'Index in the L1 table',
  l2: 'Guest cluster; all L2 tables in a row',
  refcountTable: 'Index in the refcount table',
  refcounts: 'Host cluster; all refcount blocks in a row',
  bitmapTable: 'Index in the bitmap table',
};

function none(): TemplateResult {
  return html`<span class="muted">–</span>`;
}

const ENTRY: Column = {
  id: 'entry',
  label: 'Entry at',
  meaning: 'Where the entry stands in the file',
  width: '13ch',
  mono: true,
  render: ({ hostOffset }) => (hostOffset === null ? none() : hostLink(hostOffset, { inGrid: true })),
  title: ({ hostOffset }) => (hostOffset === null ? 'No table is allocated for it' : `Entry at host offset ${exactly(hostOffset)}`),
};

const KIND: Column = {
  id: 'kind',
  label: 'Kind',
  meaning: 'What the entry says',
  width: '12ch',
  render: ({ kind }) => html`<span class=${kind === 'unallocated' ? 'muted' : ''}>${visible(kind)}</span>`,
};

const GUEST: Column = {
  id: 'guest',
  label: 'Guest offset',
  meaning: 'First byte of the virtual disk that the entry maps',
  width: '14ch',
  mono: true,
  render: ({ guestOffset }) => (guestOffset === null ? none() : guestLink(guestOffset, { inGrid: true })),
  title: ({ guestOffset }) => (guestOffset === null ? '' : `Guest offset ${exactly(guestOffset)}`),
};

const TARGET: Column = {
  id: 'target',
  label: 'Leads to',
  meaning: 'The table or cluster that the entry points at',
  width: '14ch',
  mono: true,
  render: ({ target, targetOffset }) => {
    if (targetOffset === null) {
      return none();
    }
    return target === null ? hostLink(targetOffset, { inGrid: true }) : placeLink(target, { text: hex(targetOffset), inGrid: true });
  },
  title: ({ targetOffset, targetLength }) =>
    targetOffset === null
      ? ''
      : `Host offset ${exactly(targetOffset)}${targetLength === null ? '' : `, ${size(targetLength)} (${counted(targetLength, 'byte')})`}`,
};

/** Flags with what the format's declaration says of them. */
function flagsColumn({ entries = [] }: TableShape): Column {
  const declared = new Map(entries.flatMap(({ bits }) => bits.map(({ name, meaning }) => [name, meaning] as const)));
  return {
    id: 'flags',
    label: 'Flags',
    meaning: 'Flags that are set in the entry',
    width: 'minmax(16ch, 1fr)',
    render: ({ flags }) => flags.map((flag) => html`<span class="flag" title=${declared.get(flag) ?? nothing}>${visible(flag)}</span>`),
  };
}

const SUBCLUSTERS: Column = {
  id: 'subclusters',
  label: 'Subclusters',
  meaning: 'Which of the 32 subclusters are allocated or read as zeroes; the first is on the left',
  width: '172px',
  render: ({ subclusters }) =>
    subclusters === null
      ? none()
      : html`<subcluster-strip .allocated=${subclusters.allocated} .zero=${subclusters.zero}></subcluster-strip>`,
};

const REFCOUNT: Column = {
  id: 'refcount',
  label: 'Refcount',
  meaning: 'The reference count as it stands in the file',
  width: '10ch',
  end: true,
  render: ({ refcount }) => (refcount === null ? none() : grouped(refcount)),
};

const PROBLEM: Column = {
  id: 'problem',
  label: 'Problem',
  meaning: 'What is wrong with the entry',
  width: 'minmax(14ch, 2fr)',
  render: ({ problem }) =>
    problem === null ? nothing : html`<span class="wrong">${icon('error')}<span class="cut">${visible(problem)}</span></span>`,
  title: ({ problem }) => problem ?? '',
};

/** The entry's bit fields, a line each, with what they mean. */
function bitsInWords(row: TableRow, shape: TableShape): string {
  const lines = decoded(row, shape).map(({ name, range, value, meaning }) => `${range} ${name}: ${value} - ${meaning}`);
  return lines.length === 0 ? "The entry's bytes as they stand in the file" : lines.join('\n');
}

/** Columns of a table. Extended L2 entries are twice as long and show their subclusters. */
export function columnsOf(shape: TableShape, extended: boolean): readonly Column[] {
  const kind = shape.table.kind;
  const row: Column = {
    id: 'row',
    label: kind === 'l2' || kind === 'refcounts' ? 'Cluster' : 'Index',
    meaning: ROW_MEANINGS[kind],
    width: `${Math.max(11, grouped(shape.rows).length + 2)}ch`,
    end: true,
    render: (each) => grouped(each.row),
    title: (each) => hex(each.row),
  };
  const raw: Column = {
    id: 'raw',
    label: 'Bytes',
    meaning: "The entry's bytes as they stand in the file",
    width: extended ? '49ch' : kind === 'refcounts' ? '13ch' : '25ch',
    mono: true,
    render: ({ rawHex }) => (rawHex === '' ? none() : spacedHex(rawHex)),
    title: (each) => bitsInWords(each, shape),
  };
  const flags = flagsColumn(shape);
  switch (kind) {
    case 'l1':
      return [row, ENTRY, raw, KIND, GUEST, TARGET, flags, PROBLEM];
    case 'l2':
      // An extended entry's bytes are long: what they say comes first.
      return extended
        ? [row, ENTRY, KIND, SUBCLUSTERS, GUEST, TARGET, raw, flags, PROBLEM]
        : [row, ENTRY, raw, KIND, GUEST, TARGET, flags, PROBLEM];
    case 'refcountTable':
      return [row, ENTRY, raw, KIND, TARGET, PROBLEM];
    case 'refcounts':
      return [row, ENTRY, raw, REFCOUNT, KIND, TARGET, PROBLEM];
    case 'bitmapTable':
      return [row, ENTRY, raw, KIND, GUEST, TARGET, PROBLEM];
  }
}
