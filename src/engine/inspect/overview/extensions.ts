import type { FieldView, StructureView } from '../../../protocol/inspect';
import type { Qcow2Extension } from '../../formats/qcow2/extensions';
import { FEATURE_FIELDS, featureNameEntries } from '../../formats/qcow2/featureNames';
import { decodeText, type Qcow2Metadata } from '../../formats/qcow2/metadata';
import {
  BITMAPS_EXTENSION,
  CACHE_QUOTA_EXTENSION,
  ENCRYPTION_EXTENSION,
  EXTENSION,
  EXTENSION_HEADER,
  FEATURE_NAME_ENTRY,
} from '../../formats/qcow2/structures';
import { readAvailable } from '../../io/source';
import { Decoded } from '../../layout/codec';
import type { Structure } from '../../layout/fields';
import { bytesField, bytesValue, structureView } from '../fieldView';
import { hex, visible } from '../wording';

/** Every header extension with its decoded contents, in file order. */
export function extensionViews(metadata: Qcow2Metadata): StructureView[] {
  return metadata.extensions.map((extension, index) => extensionView(metadata, extension, index));
}

function extensionView(metadata: Qcow2Metadata, extension: Qcow2Extension, index: number): StructureView {
  const { source } = metadata;
  const head = structureView(new Decoded(EXTENSION_HEADER, readAvailable(source, extension.hostOffset, EXTENSION_HEADER.length)), {
    id: `extension.${index}`,
    title: extension.title,
    hostOffset: extension.hostOffset,
    fileSize: source.size,
    problems: metadata.problems.filter(
      ({ structure, hostOffset }) => structure === EXTENSION_HEADER.title && hostOffset === extension.hostOffset,
    ),
    explain: { type: extension.title, length: 'bytes' },
  });
  return {
    ...head,
    length: EXTENSION_HEADER.length + extension.data.length,
    fields: [...head.fields, ...contents(metadata, extension)],
  };
}

function contents(metadata: Qcow2Metadata, extension: Qcow2Extension): readonly FieldView[] {
  const dataOffset = extension.hostOffset + EXTENSION_HEADER.length;
  const text = (name: string, meaning: string) => [
    bytesField(name, dataOffset, extension.data, { value: visible(decodeText(extension.data)), meaning }),
  ];
  const declared = <Name extends string>(structure: Structure<Name>): readonly FieldView[] => [
    ...structureView(new Decoded(structure, extension.data.subarray(0, structure.length)), {
      id: '',
      title: structure.title,
      hostOffset: dataOffset,
      fileSize: metadata.source.size,
    }).fields,
    ...rest(dataOffset, extension.data, structure.length),
  ];
  switch (extension.type) {
    case EXTENSION.end:
      return [];
    case EXTENSION.backingFormat:
      return text('backing_format', 'Format of the backing file; without it a reader has to guess.');
    case EXTENSION.dataFile:
      return text('data_file', 'Name of the file that holds the guest data.');
    case EXTENSION.featureNames:
      return featureNameFields(extension, dataOffset);
    case EXTENSION.bitmaps:
      return declared(BITMAPS_EXTENSION);
    case EXTENSION.encryption:
      return declared(ENCRYPTION_EXTENSION);
    case EXTENSION.cacheQuota:
      return declared(CACHE_QUOTA_EXTENSION);
    default:
      return rest(dataOffset, extension.data, 0);
  }
}

/** What of an extension's data nothing declares. */
function rest(dataOffset: number, data: Uint8Array, known: number): FieldView[] {
  const bytes = data.subarray(known);
  const meaning = 'Bytes that no specification known here explains; they are kept as they are.';
  return bytes.length === 0 ? [] : [bytesField('data', dataOffset + known, bytes, { value: bytesValue(bytes), meaning })];
}

/** One row per entry of the table: which bit, and what it is called. */
function featureNameFields(extension: Qcow2Extension, dataOffset: number): FieldView[] {
  const entries = featureNameEntries(extension);
  const rows = entries.map(({ decoded, name, offset }) => {
    const type = decoded.number('type');
    const field = FEATURE_FIELDS[type];
    return bytesField(`${field ?? `type ${type}`} bit ${decoded.number('bit')}`, dataOffset + offset, decoded.bytes, {
      value: visible(name),
      meaning: decoded.field('name').meaning,
      problem: field ? null : `Feature type ${hex(type)} is unknown.`,
    });
  });
  return [...rows, ...rest(dataOffset, extension.data, entries.length * FEATURE_NAME_ENTRY.length)];
}
