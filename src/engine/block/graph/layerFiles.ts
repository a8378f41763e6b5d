import { cacheQuotaOf } from '../../formats/qcow2/cacheQuota';
import { FileSource } from '../../io/file';
import type { ImageLock, LockRole } from '../../io/imageLocks';
import type { ByteSource } from '../../io/source';
import type { Layer } from '../../chain/layer';

/** The open files of an image: its own, and those that hold its data. */
export function filesOf({ source, detail }: Layer): readonly ByteSource[] {
  switch (detail.format) {
    case 'qcow2':
      return detail.dataFile ? [source, detail.dataFile] : [source];
    case 'vmdk':
      return [source, ...detail.extents.filter((extent) => extent !== null)];
    case 'qed':
    case 'raw':
      return [source];
  }
}

/** What a reader of an image locks, as QEMU's drivers do; only local files can be. */
export function readerLocks(layer: Layer): readonly ImageLock[] {
  const { detail } = layer;
  const cache = detail.format === 'qcow2' && cacheQuotaOf(detail.metadata) !== null;
  const own: LockRole = detail.format === 'raw' ? 'raw' : cache ? 'cache' : 'metadata';
  return filesOf(layer).flatMap((file, index) =>
    file instanceof FileSource ? [{ file, role: index === 0 ? own : ('data-file' as const) }] : [],
  );
}

const WRITERS = { cache: 'metadata-writer', metadata: 'metadata-writer', raw: 'raw-writer', 'data-file': 'data-file-writer' } as const;

/** The role of somebody who writes what a reader in `role` reads. */
export function writerRole(role: LockRole): LockRole {
  return role in WRITERS ? WRITERS[role as keyof typeof WRITERS] : role;
}
