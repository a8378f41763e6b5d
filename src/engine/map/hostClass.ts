import type { HostClass } from '../../protocol/inspect';
import type { MapClass } from './classSource';

/** Classes of a host map in legend order; a class's number is its place here. The later, the more it deserves to be seen. */
export const HOST_CLASSES: readonly (MapClass & { readonly id: HostClass })[] = [
  { id: 'free', label: 'Free' },
  { id: 'data', label: 'Data' },
  { id: 'compressed', label: 'Compressed data' },
  { id: 'l2', label: 'L2 table' },
  { id: 'l1', label: 'L1 table' },
  { id: 'refcountBlock', label: 'Refcount block' },
  { id: 'refcountTable', label: 'Refcount table' },
  { id: 'header', label: 'Header' },
  { id: 'snapshotTable', label: 'Snapshot table' },
  { id: 'bitmap', label: 'Bitmap' },
  { id: 'encryption', label: 'Encryption header' },
  { id: 'leaked', label: 'Leaked' },
  { id: 'corrupt', label: 'Corrupt' },
];

export const HOST: Readonly<Record<HostClass, number>> = {
  free: 0,
  data: 1,
  compressed: 2,
  l2: 3,
  l1: 4,
  refcountBlock: 5,
  refcountTable: 6,
  header: 7,
  snapshotTable: 8,
  bitmap: 9,
  encryption: 10,
  leaked: 11,
  corrupt: 12,
};
