import type { Chain } from './chain';
import type { LayerView, Place, TableId } from './place';

/* What the editor asks of an opened image. All requests go to a session of the engine worker. */

/** A link or banner's tone. */
export type Severity = 'error' | 'warning' | 'info';

export interface Notice {
  readonly severity: Severity;
  readonly message: string;
  readonly place: Place | null;
  /** What can be done about it here: giving the passphrases of what is encrypted, or taking them back. */
  readonly action?: 'unlock' | 'forgetPassphrases';
}

/** One declared field (or one bit range of it) of a structure as it stands in the file. */
export interface FieldView {
  readonly name: string;
  /** Byte offset in the file. */
  readonly hostOffset: number;
  /** Bytes. */
  readonly length: number;
  /** Bytes as they stand in the file, lower-case hexadecimal without spaces; at most 64 bytes of long fields. */
  readonly rawHex: string;
  /** The decoded value as a person reads it. */
  readonly value: string;
  readonly meaning: string;
  readonly place: Place | null;
  /** Bits by name, for feature and flag fields. `known` is false for a set bit nobody declared. */
  readonly bits: readonly {
    readonly bit: number;
    readonly name: string;
    readonly set: boolean;
    readonly known: boolean;
    readonly meaning: string;
  }[];
  /** What is wrong with it, one sentence. */
  readonly problem: string | null;
}

export interface StructureView {
  /** Stable within an image, for expansion state. */
  readonly id: string;
  readonly title: string;
  readonly hostOffset: number;
  readonly length: number;
  readonly fields: readonly FieldView[];
  readonly problems: readonly Notice[];
}

export interface Overview {
  readonly path: string;
  readonly chain: Chain;
  readonly notices: readonly Notice[];
  /** Header, extensions, LUKS header, VMDK descriptor ... in file order. */
  readonly structures: readonly StructureView[];
  /** Facts in qemu-img info's words: `cluster size`, `compat`, ... */
  readonly facts: readonly { readonly name: string; readonly value: string; readonly place: Place | null }[];
  /** Which tabs make sense for the format. */
  readonly has: {
    readonly tables: boolean;
    readonly guestMap: boolean;
    readonly hostMap: boolean;
    readonly check: boolean;
    readonly snapshots: boolean;
  };
  readonly fileSize: number;
  readonly virtualSize: number;
  readonly clusterSize: number | null;
}

/** What the file's clusters are spent on. */
export type HostClass =
  | 'header'
  | 'l1'
  | 'l2'
  | 'refcountTable'
  | 'refcountBlock'
  | 'snapshotTable'
  | 'bitmap'
  | 'encryption'
  | 'data'
  | 'compressed'
  | 'free'
  | 'leaked'
  | 'corrupt';

/** What a guest cluster is. */
export type GuestClass = 'unallocated' | 'data' | 'zero' | 'compressed' | 'unknown';

export interface UsageRow {
  readonly class: HostClass;
  readonly clusters: number;
  readonly bytes: number;
}

export interface Usage {
  readonly rows: readonly UsageRow[];
  readonly clusterSize: number;
  readonly clusters: number;
}

/** One row of a table. */
export interface TableRow {
  /** Row number: entry index, guest cluster (`l2`) or host cluster (`refcounts`). */
  readonly row: number;
  /** Byte offset in the file of the entry; null where no table is allocated. */
  readonly hostOffset: number | null;
  /** Entry's bytes as hexadecimal; empty where no table is allocated. */
  readonly rawHex: string;
  /** One short word: `data`, `zero`, `compressed`, `unallocated`, `table`, `refcount 2`, ... */
  readonly kind: string;
  /** Where it leads. */
  readonly target: Place | null;
  /** Further places: the guest range it maps, the table below. */
  readonly guestOffset: number | null;
  /** Host bytes it points at: offset and length (compressed: sectors). */
  readonly targetOffset: number | null;
  readonly targetLength: number | null;
  /** Names of the set flags. */
  readonly flags: readonly string[];
  /** Extended L2: allocation and zero bits, bit 0 is the first subcluster. */
  readonly subclusters: { readonly allocated: number; readonly zero: number } | null;
  /** Refcount tables: the count as it stands. */
  readonly refcount: number | null;
  readonly problem: string | null;
}

export interface TableShape {
  readonly table: TableId;
  readonly title: string;
  readonly rows: number;
  /** Rows of `l2` that one L1 entry covers; of `refcounts` that one refcount table entry covers; 0 elsewhere. */
  readonly rowsPerParent: number;
  /** How an entry's bits are declared, for the table's hover and row detail. The first that is for a row's kind counts. */
  readonly entries?: readonly EntryDeclaration[];
}

export interface EntryDeclaration {
  readonly title: string;
  /** Kinds of rows (`TableRow.kind`) that it is for; null: all. */
  readonly kinds: readonly string[] | null;
  readonly littleEndian: boolean;
  /** `lowBit` counts on through the entry's 64-bit words: 64 is the lowest bit of the second. */
  readonly bits: readonly {
    readonly name: string;
    readonly lowBit: number;
    readonly width: number;
    readonly show: 'hostOffset' | 'number' | 'hex' | 'flag' | 'reserved';
    readonly meaning: string;
  }[];
}

export interface TablePage {
  readonly first: number;
  readonly rows: readonly TableRow[];
}

export interface SnapshotDetail {
  readonly index: number;
  readonly structure: StructureView;
  readonly summary: string;
}

export interface BitmapDetail {
  readonly index: number;
  readonly structure: StructureView;
  readonly name: string;
  /** Guest bytes that the bitmap marks, null when its bits cannot be read. */
  readonly markedBytes: number | null;
}

export interface SnapshotsAndBitmaps {
  readonly snapshots: readonly SnapshotDetail[];
  readonly bitmaps: readonly BitmapDetail[];
  readonly notices: readonly Notice[];
}

/** One layer's answer to "where is this guest offset". */
export interface LayerTranslation {
  readonly depth: number;
  readonly path: string;
  readonly class: GuestClass;
  /** Byte offset in that layer's file (or its data file); null when it holds nothing there, or compressed (then the descriptor's). */
  readonly hostOffset: number | null;
  /** Whether this layer is the one the guest reads from. */
  readonly supplies: boolean;
}

export interface Location {
  /** As understood, in words: `guest offset 4 GiB (0x100000000)`. */
  readonly understood: string;
  readonly space: 'guest' | 'host';
  readonly offset: number;
  /** Guest offset that the byte belongs to; several for host clusters that are shared, at most 16. */
  readonly guestOffsets: readonly number[];
  readonly layers: readonly LayerTranslation[];
  /** What the host byte belongs to in the active layer's file, when there is one. */
  readonly region: Region | null;
}

/** A stretch of the file with one meaning. */
export interface Region {
  readonly hostOffset: number;
  readonly length: number;
  readonly class: HostClass;
  /** "L2 table 12 (of L1 entry 12)", "data of guest offset 0x10000". */
  readonly label: string;
  readonly place: Place | null;
}

/** Everything about one cluster. */
export interface ClusterInspection {
  readonly title: string;
  readonly guest: { readonly guestOffset: number; readonly length: number } | null;
  readonly host: { readonly hostOffset: number; readonly length: number; readonly path: string } | null;
  readonly class: GuestClass | HostClass;
  readonly layers: readonly LayerTranslation[];
  /** Every table entry on the way, outermost first, with its bytes. */
  readonly path: readonly {
    readonly title: string;
    readonly hostOffset: number;
    readonly rawHex: string;
    readonly decoded: string;
    readonly place: Place;
    readonly file: string;
  }[];
  /** On-disk refcount and references found; null where the format counts none. */
  readonly refcount: number | null;
  readonly references: { readonly count: number; readonly places: readonly { readonly label: string; readonly place: Place }[] } | null;
  readonly subclusters: { readonly allocated: number; readonly zero: number } | null;
  /** First bytes of the cluster, at most 4096; null when there are none or they are encrypted. */
  readonly bytes: Uint8Array | null;
  readonly bytesNote: string | null;
  /** They are encrypted, and the passphrase was not given. */
  readonly locked: boolean;
  /** The commands of qemu-img and qemu-io that show the same. */
  readonly commands: readonly string[];
}

export interface HexPage {
  readonly hostOffset: number;
  readonly bytes: Uint8Array;
  readonly regions: readonly Region[];
}

/* Maps: a picture of cells in tiles of 256 x 256. */

export type MapSpace = 'guest' | 'host';
export type MapOrder = 'rowMajor' | 'hilbert';
/** `state`: classes of GuestClass / HostClass. `layer`: which layer of the chain supplies (guest only). */
export type MapMode = 'state' | 'layer';

export interface MapRequest {
  readonly space: MapSpace;
  readonly mode: MapMode;
  readonly order: MapOrder;
  readonly view: LayerView;
}

export interface MapShape {
  readonly clusterSize: number;
  /** Number of clusters; the last may be partial. */
  readonly clusters: number;
  /** Side lengths of the finest level in cells (one cell is one cluster); powers of two. Level n halves both, n times. */
  readonly width: number;
  readonly height: number;
  /** Coarsest level: the whole map in one cell or less. */
  readonly levels: number;
  /** Legend in colour order; `index` is the value in tiles. */
  readonly classes: readonly {
    readonly index: number;
    readonly id: string;
    readonly label: string;
    readonly clusters: number;
    readonly bytes: number;
  }[];
  /** Bytes that the map covers. */
  readonly length: number;
}

export const MAP_TILE_SIDE = 256;
/** Value of tile cells outside the map. */
export const MAP_OUTSIDE = 255;

export interface MapTileRequest extends MapRequest {
  /** 0 is one cluster a cell. */
  readonly level: number;
  readonly x: number;
  readonly y: number;
}

/** All arrays are MAP_TILE_SIDE squared, row by row. */
export interface MapTile {
  readonly level: number;
  readonly x: number;
  readonly y: number;
  /** Class index that fills most of the cell, MAP_OUTSIDE outside. */
  readonly dominant: Uint8Array;
  /** Bit n: class n occurs in the cell (bit 15: class 15 or higher). */
  readonly present: Uint16Array;
  /** How much of the cell is not class 0, 0..255. */
  readonly density: Uint8Array;
}

/** A run of equal class in address order, for the text summary and the keyboard cursor. */
export interface MapCellInfo {
  readonly firstCluster: number;
  readonly clusters: number;
  readonly offset: number;
  readonly length: number;
  readonly counts: readonly { readonly index: number; readonly clusters: number }[];
  readonly description: string;
}

export interface TableRequest {
  readonly table: TableId;
  readonly first: number;
  readonly count: number;
}
