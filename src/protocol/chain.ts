/** A chain of images as the tree and the command line show it. */

export type ImageFormat = 'qcow2' | 'qed' | 'vmdk' | 'raw';

/** Why a link of a chain is not open. */
export type LinkState =
  | { readonly kind: 'open' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'refused'; readonly reason: RefusalReason }
  | { readonly kind: 'loop' }
  /** `server`: what is known of the server that it lies on, when that is why. */
  | { readonly kind: 'unreadable'; readonly message: string; readonly server?: 'retrying' | 'offline' };

/** Why the opening gate said no; all but `protocol` can be granted by the person. */
export type RefusalReason =
  | 'untrustedWorkspace'
  | 'outsideWorkspace'
  | 'network'
  /** A `json:` name or a protocol this version cannot read. */
  | 'protocol'
  /** The command line was told not to follow. */
  | 'notFollowed';

export interface SnapshotSummary {
  readonly index: number;
  readonly id: string;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly dateMs: number;
  /** Bytes. */
  readonly vmStateSize: number;
  readonly diskSize: number;
}

export interface BitmapSummary {
  readonly index: number;
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  readonly inUse: boolean;
  readonly auto: boolean;
}

export interface LockHolder {
  readonly pid: number;
  readonly command: string;
}

export interface UsageState {
  /** False where the system does not tell (anything but Linux); the rest is then empty. */
  readonly known: boolean;
  /** Some process holds QEMU's locks on the file. */
  readonly inUse: boolean;
  readonly writing: boolean;
  /** Whoever the system names; may be empty although `inUse`. */
  readonly holders: readonly LockHolder[];
  /** What this window itself does with the file, apart from looking at it: it serves it, or a job works on it. */
  readonly own?: 'reading' | 'writing';
}

/** One image of a chain. */
export interface ChainLink {
  /** The name as the overlay records it (the path for the active layer). */
  readonly recordedName: string;
  /** Resolved absolute path; null when the name is no local file. */
  readonly path: string | null;
  readonly state: LinkState;
  /** Null when it could not be looked at. */
  readonly image: ImageSummary | null;
  /** Where the name that leads to this link stands in the overlay; null for the active layer. */
  readonly role: 'active' | 'backing' | 'data-file' | 'extent';
}

export interface ImageSummary {
  readonly format: ImageFormat;
  /** Bytes. */
  readonly virtualSize: number;
  readonly fileSize: number;
  readonly allocatedBytes: number;
  /** Null for formats without clusters. */
  readonly clusterSize: number | null;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly encrypted: boolean;
  readonly readOnly: boolean;
  readonly usage: UsageState;
  readonly backingName: string | null;
  /** Null when the overlay does not record it. */
  readonly backingFormat: string | null;
  readonly dataFileName: string | null;
  /** Bytes up to which the file of a cache image may grow; null for every other image. */
  readonly cacheQuota: number | null;
  readonly snapshots: readonly SnapshotSummary[];
  readonly bitmaps: readonly BitmapSummary[];
  /** What is wrong, one sentence each; the first error means no driver opens it. */
  readonly problems: readonly { readonly severity: 'error' | 'warning'; readonly message: string; readonly hostOffset: number }[];
}

/** Active layer first, base last. A `data-file` link follows the link it belongs to. */
export interface Chain {
  readonly links: readonly ChainLink[];
}
