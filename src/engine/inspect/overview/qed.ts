import type { StructureView } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer } from '../../chain/layer';
import type { QedMetadata } from '../../formats/qed/metadata';
import { readAvailable } from '../../io/source';
import { fieldLength } from '../../layout/fields';
import { bytesField, structureView } from '../fieldView';
import { exactSize, visible } from '../wording';
import { commonFacts, type Fact } from './facts';

export function qedStructures(metadata: QedMetadata): StructureView[] {
  const { header, source, backingFile, l1TableOffset } = metadata;
  const view = structureView(header, {
    id: 'header',
    title: header.structure.title,
    hostOffset: 0,
    fileSize: source.size,
    problems: metadata.problems,
    explain: {
      table_size: metadata.tablesReadable ? `clusters, ${metadata.tableEntries} entries` : 'clusters',
      header_size: `clusters, ${exactSize(metadata.headerBytes)}`,
      backing_filename_size: 'bytes',
    },
    places: {
      ...(l1TableOffset > 0 && l1TableOffset < source.size
        ? {
            l1_table_offset: {
              kind: 'host',
              hostOffset: l1TableOffset,
              length: Math.min(metadata.tableBytes, source.size - l1TableOffset),
            },
          }
        : {}),
      ...(backingFile ? {} : { backing_filename_offset: null }),
    },
  });
  return backingFile ? [view, backingNameView(metadata, backingFile)] : [view];
}

function backingNameView({ source }: QedMetadata, { name, hostOffset, length }: NonNullable<QedMetadata['backingFile']>): StructureView {
  const bytes = readAvailable(source, hostOffset, length);
  return {
    id: 'backingFileName',
    title: 'backing file name',
    hostOffset,
    length,
    fields: [
      bytesField('backing_filename', hostOffset, bytes, {
        value: visible(name),
        meaning: 'The image that unallocated clusters are read from; relative names start at the folder of this image.',
        problem: bytes.length < length ? 'The file ends inside the name.' : null,
      }),
    ],
    problems: [],
  };
}

export function qedFacts(layer: Layer, metadata: QedMetadata): Fact[] {
  const { header, backingFile } = metadata;
  const at = (name: Parameters<typeof header.field>[0]): Place => ({
    kind: 'host',
    hostOffset: header.field(name).offset,
    length: fieldLength(header.field(name)),
  });
  const backingPlace: Place | null = backingFile && { kind: 'host', hostOffset: backingFile.hostOffset, length: backingFile.length };
  return commonFacts(layer, { size: at('image_size'), clusterSize: at('cluster_size') }, metadata.clusterSize)
    .addWhen(metadata.needCheck, 'cleanly shut down', 'no', at('features'))
    .addWhen(backingFile !== null, 'backing file', backingFile?.name ?? '', backingPlace)
    .addWhen(metadata.backingFormat !== null, 'backing file format', metadata.backingFormat ?? '', at('features')).facts;
}
