import type { StructureView } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer } from '../../chain/layer';
import { featureNames } from '../../formats/qcow2/featureNames';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import { EXTENSION, V2_HEADER_LENGTH } from '../../formats/qcow2/structures';
import { readAvailable } from '../../io/source';
import { fieldLength } from '../../layout/fields';
import { bytesField, bytesValue, structureView } from '../fieldView';
import { exactSize, humanSize, visible } from '../wording';
import { extensionViews } from './extensions';
import { commonFacts, type Fact } from './facts';
import { encryptionFacts, luksHeaderOf, luksViews } from './luks';

/** Header, what follows it in the first cluster, and the encryption header, in file order. */
export function qcow2Structures(metadata: Qcow2Metadata): StructureView[] {
  const luks = luksHeaderOf(metadata);
  return [headerView(metadata), ...extensionViews(metadata), ...backingNameView(metadata), ...(luks ? luksViews(luks) : [])];
}

function headerView(metadata: Qcow2Metadata): StructureView {
  const { header, source, version, headerLength } = metadata;
  // Unknown versions are shown as the newest known one; a header says itself how much of it there is.
  const length = version === 2 ? V2_HEADER_LENGTH : Math.max(104, headerLength);
  const names = featureNames(metadata.extensions);
  const view = structureView(header, {
    id: 'header',
    title: header.structure.title,
    hostOffset: 0,
    fileSize: source.size,
    has: (field) => field.offset + fieldLength(field) <= length,
    problems: metadata.problems.filter(({ structure }) => structure === header.structure.title),
    bitName: (field, bit) => names.get(`${field}.${bit}`),
    explain: {
      version: version === 2 ? 'compat 0.10' : version === 3 ? 'compat 1.1' : 'unknown',
      ...(metadata.tablesReadable ? { cluster_bits: `cluster size ${humanSize(metadata.clusterSize)}` } : {}),
      backing_file_size: 'bytes',
      l1_size: `maps up to ${humanSize(metadata.l1Size * metadata.l2Coverage)}`,
      refcount_table_clusters: exactSize(metadata.refcountTableClusters * metadata.clusterSize),
      ...(header.number('refcount_order') <= 6 ? { refcount_order: `${metadata.refcountBits} bits` } : {}),
      header_length: 'bytes',
    },
    places: {
      ...tablePlace('l1_table_offset', metadata.l1TableOffset, metadata.l1Size * 8, source.size),
      ...tablePlace(
        'refcount_table_offset',
        metadata.refcountTableOffset,
        metadata.refcountTableClusters * metadata.clusterSize,
        source.size,
      ),
      ...(metadata.nbSnapshots === 0 ? { snapshots_offset: null } : {}),
    },
  });
  return { ...view, fields: [...view.fields, ...unknownHeaderBytes(metadata)] };
}

/** A header that is longer than any known one goes on with fields of a newer version. */
function unknownHeaderBytes({ header, source, version, headerLength, clusterSize }: Qcow2Metadata): StructureView['fields'] {
  const known = header.structure.length;
  if (version < 3 || headerLength <= known) {
    return [];
  }
  const bytes = readAvailable(source, known, Math.min(headerLength, clusterSize) - known);
  const meaning = 'Header fields of a version not known here; they are kept as they are.';
  return bytes.length === 0 ? [] : [bytesField('unknown fields', known, bytes, { value: bytesValue(bytes), meaning })];
}

function tablePlace<Name extends string>(name: Name, hostOffset: number, length: number, fileSize: number): Partial<Record<Name, Place>> {
  if (!(hostOffset > 0 && hostOffset < fileSize && length > 0)) {
    return {};
  }
  const place: Place = { kind: 'host', hostOffset, length: Math.min(length, fileSize - hostOffset) };
  return { [name]: place } as Partial<Record<Name, Place>>;
}

function backingNameView({ source, backingFile, problems }: Qcow2Metadata): StructureView[] {
  if (!backingFile) {
    return [];
  }
  const { hostOffset, length, name } = backingFile;
  const bytes = readAvailable(source, hostOffset, length);
  return [
    {
      id: 'backingFileName',
      title: 'backing file name',
      hostOffset,
      length,
      fields: [
        bytesField('backing_file_name', hostOffset, bytes, {
          value: visible(name),
          meaning: 'The image that unallocated clusters are read from; relative names start at the folder of this image.',
          problem: bytes.length < length ? 'The file ends inside the name.' : null,
        }),
      ],
      problems: problems
        .filter(({ structure }) => structure === 'backing file name')
        .map(({ severity, message }) => ({
          severity,
          message,
          place: { kind: 'host', hostOffset },
        })),
    },
  ];
}

/** qcow2's facts in qemu-img's words and order. */
export function qcow2Facts(layer: Layer, metadata: Qcow2Metadata): Fact[] {
  const { header, version, backingFile } = metadata;
  const at = (name: Parameters<typeof header.field>[0]): Place => ({
    kind: 'host',
    hostOffset: header.field(name).offset,
    length: fieldLength(header.field(name)),
  });
  const extension = (type: number): Place | null => {
    const found = metadata.extensions.find((candidate) => candidate.type === type);
    return found ? { kind: 'host', hostOffset: found.hostOffset, length: 8 + found.data.length } : null;
  };
  const list = commonFacts(layer, { size: at('size'), clusterSize: at('cluster_bits') }, metadata.clusterSize);
  const backingPlace: Place | null = backingFile && { kind: 'host', hostOffset: backingFile.hostOffset, length: backingFile.length };
  list
    .addWhen(metadata.cryptMethod !== 0, 'encrypted', 'yes', at('crypt_method'))
    .addWhen(metadata.dirty, 'cleanly shut down', 'no', at('incompatible_features'))
    .addWhen(backingFile !== null, 'backing file', backingFile?.name ?? '', backingPlace)
    .addWhen(metadata.backingFormat !== null, 'backing file format', metadata.backingFormat ?? '', extension(EXTENSION.backingFormat))
    .add('compat', version === 2 ? '0.10' : '1.1', at('version'))
    .add('compression type', metadata.compressionType, version === 2 ? null : at('compression_type'))
    .addWhen(version >= 3, 'lazy refcounts', metadata.lazyRefcounts, at('compatible_features'))
    .add('refcount bits', metadata.refcountBits, version === 2 ? null : at('refcount_order'));
  for (const fact of encryptionFacts(metadata)) {
    list.add(fact.name, fact.value, fact.place);
  }
  return list
    .addWhen(metadata.hasDataFile, 'data file', metadata.dataFileName ?? '', extension(EXTENSION.dataFile))
    .addWhen(metadata.hasDataFile, 'data file raw', metadata.rawDataFile, at('autoclear_features'))
    .addWhen(version >= 3, 'corrupt', metadata.corrupt, at('incompatible_features'))
    .addWhen(version >= 3, 'extended l2', metadata.extendedL2, at('incompatible_features')).facts;
}
