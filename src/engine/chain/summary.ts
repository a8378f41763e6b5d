import type { BitmapSummary, ImageSummary, SnapshotSummary, UsageState } from '../../protocol/chain';
import { readBitmapDirectory } from '../formats/qcow2/bitmaps';
import { cacheQuotaOf } from '../formats/qcow2/cacheQuota';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import { readSnapshotTable } from '../formats/qcow2/snapshots';
import type { Problem } from '../formats/problem';
import type { ByteSource } from '../io/source';
import type { LayerDetail } from './layer';

/** An opened image, before it has a place in a chain. */
export interface SummarizedImage {
  readonly source: ByteSource;
  /** Bytes. */
  readonly virtualSize: number;
  readonly detail: LayerDetail;
  /** Whether this process may not write to the file. */
  readonly readOnly: boolean;
  readonly usage: UsageState;
}

/** What the tree and the command line show of an image, from its metadata alone. */
export function summarizeImage(image: SummarizedImage): ImageSummary {
  const { source, virtualSize, readOnly, usage, detail } = image;
  const { size: fileSize, allocatedBytes } = source;
  const common = { ...PLAIN, format: detail.format, virtualSize, fileSize, allocatedBytes, readOnly, usage };
  switch (detail.format) {
    case 'qcow2':
      return { ...common, ...qcow2Summary(detail.metadata) };
    case 'qed': {
      const { clusterSize, needCheck, backingFile, backingFormat, problems } = detail.metadata;
      return { ...common, clusterSize, backingFormat, dirty: needCheck, backingName: backingFile?.name ?? null, problems: shown(problems) };
    }
    case 'vmdk': {
      const { grainSize, parentFileNameHint, problems } = detail.metadata;
      return { ...common, clusterSize: grainSize, backingName: parentFileNameHint, problems: shown(problems) };
    }
    case 'raw':
      return common;
  }
}

const PLAIN = {
  clusterSize: null,
  dirty: false,
  corrupt: false,
  encrypted: false,
  backingName: null,
  backingFormat: null,
  dataFileName: null,
  cacheQuota: null,
  snapshots: [],
  bitmaps: [],
  problems: [],
} as const;

function qcow2Summary(metadata: Qcow2Metadata): Partial<ImageSummary> {
  const { clusterSize, dirty, corrupt, cryptMethod, backingFile, backingFormat, dataFileName, hasDataFile } = metadata;
  const table = metadata.nbSnapshots > 0 && metadata.tablesReadable ? readSnapshotTable(metadata) : null;
  const directory = readBitmapDirectory(metadata);
  return {
    clusterSize,
    dirty,
    corrupt,
    backingFormat,
    encrypted: cryptMethod !== 0,
    backingName: backingFile?.name ?? null,
    dataFileName: hasDataFile ? dataFileName : null,
    cacheQuota: cacheQuotaOf(metadata),
    snapshots: (table?.snapshots ?? []).map(({ index, id, name, dateSec, dateNsec, vmStateSize, diskSize }): SnapshotSummary => ({
      index,
      id,
      name,
      vmStateSize,
      diskSize,
      dateMs: dateSec * 1000 + Math.floor(dateNsec / 1e6),
    })),
    bitmaps: directory.bitmaps.map(({ index, name, granularity, inUse, auto }): BitmapSummary => ({
      index,
      name,
      granularity,
      inUse,
      auto,
    })),
    problems: shown([...metadata.problems, ...(table?.problems ?? []), ...directory.problems]),
  };
}

function shown(problems: readonly Problem[]): ImageSummary['problems'] {
  return problems.map(({ severity, message, hostOffset }) => ({ severity, message, hostOffset }));
}
