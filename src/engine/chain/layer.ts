import type { ChainLink } from '../../protocol/chain';
import type { ByteSource } from '../io/source';
import type { Qcow2Metadata } from '../formats/qcow2/metadata';
import type { QedMetadata } from '../formats/qed/metadata';
import type { VmdkMetadata } from '../formats/vmdk/metadata';

/** What the format's driver knows of an opened image. */
export type LayerDetail =
  | {
      readonly format: 'qcow2';
      readonly metadata: Qcow2Metadata;
      /** The external data file; null when there is none or the gate or the file system did not let it open. */
      readonly dataFile: ByteSource | null;
    }
  | { readonly format: 'qed'; readonly metadata: QedMetadata }
  | {
      readonly format: 'vmdk';
      readonly metadata: VmdkMetadata;
      /** The files of its `usedExtents`; null for one that the gate or the file system did not let open. */
      readonly extents: readonly (ByteSource | null)[];
    }
  | { readonly format: 'raw' };

/** One opened image of a chain, for looking at: opened read-only and leniently. */
export interface Layer {
  /** 0 is the active layer. */
  readonly depth: number;
  /** Absolute, not free of symbolic links. */
  readonly path: string;
  /** The name as QEMU has it in its messages and JSON: as given for the active layer, relative names put behind the overlay's folder. */
  readonly filename: string;
  readonly source: ByteSource;
  /** False when no format was given or recorded and the first bytes decided. */
  readonly formatRecorded: boolean;
  /** Bytes, as QEMU has it: whole sectors of 512 (raw rounds up, qcow2 down); 0 when the header's value is unusable. */
  readonly virtualSize: number;
  readonly detail: LayerDetail;
  readonly link: ChainLink;
}

/** A chain as far as it could be opened. */
export interface OpenedChain {
  /** Active layer first; only what is open. Never empty: when the active layer does not open, opening throws. */
  readonly layers: readonly Layer[];
  /** Every link, also those that are missing, refused or looping. */
  readonly links: readonly ChainLink[];
  /** Whether the chain ends in a base (true) or in a link that is not open (false). */
  readonly complete: boolean;
  close(): void;
}
