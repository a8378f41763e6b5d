import type { Storage } from '../../../io/storage';
import type { Qcow2ClusterMap } from '../clusterMap';
import type { Qcow2Metadata } from '../metadata';
import type { Claims } from './claims';
import type { EntryCodec } from './clusterEntry';
import type { GuestData } from './guestData';
import type { MetadataOrder } from './order';
import type { Refcounts } from './refcounts';
import type { Regions } from './regions';
import type { Steps } from './steps';
import type { ActiveTables } from './tables';

/** What the writers of one open image share. */
export interface ImageParts {
  readonly storage: Storage;
  readonly metadata: Qcow2Metadata;
  readonly codec: EntryCodec;
  readonly refcounts: Refcounts;
  readonly tables: ActiveTables;
  readonly order: MetadataOrder;
  readonly regions: Regions;
  readonly claims: Claims;
  readonly data: GuestData;
  /** The guest's view; another one after a resize. */
  map(): Qcow2ClusterMap;
  /** Before the first change of a table. */
  prepare(): Steps<void>;
}
