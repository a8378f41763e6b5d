import type { FieldView, StructureView } from '../../../protocol/inspect';
import type { Layer } from '../../chain/layer';
import { grainSizeOf } from '../../formats/vmdk/extents';
import type { VmdkMetadata } from '../../formats/vmdk/metadata';
import { readAvailable } from '../../io/source';
import { bytesField, problemNotice, structureView } from '../fieldView';
import { exactSize, visible } from '../wording';
import { commonFacts, type Fact } from './facts';

const SECTOR = 512;
/** Lines of a descriptor that are shown; one of a real image has some twenty. */
const MAX_LINES = 512;
/** As much of a descriptor as is shown. */
const MAX_DESCRIPTOR = 64 * 1024;
const NEWLINE = 0x0a;

export function vmdkStructures(metadata: VmdkMetadata): StructureView[] {
  const { header, descriptor } = metadata;
  return [...(header ? [headerView(metadata, header)] : []), ...(descriptor ? [descriptorView(metadata, descriptor)] : [])];
}

function headerView({ source, problems }: VmdkMetadata, header: NonNullable<VmdkMetadata['header']>): StructureView {
  const sectors = (name: Parameters<typeof header.field>[0]) => exactSize(header.number(name) * SECTOR);
  const at = (name: Parameters<typeof header.field>[0]) => {
    const hostOffset = header.number(name) * SECTOR;
    return hostOffset > 0 && hostOffset < source.size ? ({ kind: 'host', hostOffset } as const) : null;
  };
  return structureView(header, {
    id: 'header',
    title: header.structure.title,
    hostOffset: 0,
    fileSize: source.size,
    problems: problems.filter(({ structure }) => structure === header.structure.title),
    explain: {
      capacity: sectors('capacity'),
      grainSize: sectors('grainSize'),
      descriptorSize: sectors('descriptorSize'),
      overHead: sectors('overHead'),
    },
    places: { descriptorOffset: at('descriptorOffset'), rgdOffset: at('rgdOffset'), gdOffset: at('gdOffset') },
  });
}

/** What the descriptor's keys mean, by their lower-case names. */
const KEYS: Readonly<Record<string, string>> = {
  version: 'Version of the descriptor.',
  cid: 'Content identifier; changes when the disk is opened for writing.',
  parentcid: 'Content identifier that the parent had; ffffffff without one.',
  createtype: 'How the disk is stored.',
  parentfilenamehint: 'Name of the parent, which holds what this image does not.',
  encoding: 'Character encoding of the descriptor.',
};

function descriptorView({ source, problems }: VmdkMetadata, { text, hostOffset }: NonNullable<VmdkMetadata['descriptor']>): StructureView {
  // Offsets of lines are counted in the file's bytes: the text may have lost some that are no UTF-8.
  const bytes = readAvailable(source, hostOffset, MAX_DESCRIPTOR);
  const end = bytes.indexOf(0);
  const length = end < 0 ? bytes.length : end;
  const fields: FieldView[] = [];
  let start = 0;
  for (const line of text.slice(0, MAX_DESCRIPTOR).split('\n', MAX_LINES)) {
    const newline = bytes.indexOf(NEWLINE, start);
    const next = newline < 0 || newline > length ? length : newline;
    const trimmed = line.trim();
    if (trimmed !== '' && !trimmed.startsWith('#')) {
      fields.push(lineField(trimmed, hostOffset + start, bytes.subarray(start, next)));
    }
    start = next + 1;
  }
  return {
    id: 'descriptor',
    title: 'VMDK descriptor',
    hostOffset,
    length,
    fields,
    problems: problems.filter(({ structure }) => structure === 'VMDK descriptor').map(problemNotice),
  };
}

function lineField(line: string, hostOffset: number, bytes: Uint8Array): FieldView {
  const equals = line.indexOf('=');
  if (/^(RW|RDONLY|NOACCESS)\s/.test(line)) {
    return bytesField('extent', hostOffset, bytes, {
      value: visible(line),
      meaning: 'Access, length in 512-byte sectors, type and file of an extent.',
    });
  }
  const name = equals < 0 ? 'line' : line.slice(0, equals).trim();
  const value =
    equals < 0
      ? line
      : line
          .slice(equals + 1)
          .trim()
          .replace(/^"|"$/g, '');
  const meaning =
    KEYS[name.toLowerCase()] ?? (name.startsWith('ddb.') ? 'Disk database: what the virtual machine sees.' : 'A line of the descriptor.');
  return bytesField(visible(name), hostOffset, bytes, { value: visible(value), meaning });
}

export function vmdkFacts(layer: Layer, { metadata, extents }: Extract<Layer['detail'], { format: 'vmdk' }>): Fact[] {
  const { descriptor, header, createType, parentFileNameHint } = metadata;
  const place = descriptor && ({ kind: 'host', hostOffset: descriptor.hostOffset } as const);
  return commonFacts(
    layer,
    header ? { size: { kind: 'host', hostOffset: header.field('capacity').offset, length: 8 } } : {},
    grainSizeOf(metadata, extents),
  )
    .addWhen(parentFileNameHint !== null, 'backing file', parentFileNameHint ?? '', place)
    .addWhen(createType !== null, 'create type', createType ?? '', place)
    .addWhen(metadata.extents.length > 0, 'extents', metadata.extents.length, place).facts;
}
