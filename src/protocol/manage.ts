import { RequestType } from 'vscode-jsonrpc';

import type { ImageFormat } from './chain';
import type { WireError } from './engine';

/*
 * Operations that make or change images, in qemu-img's words: each method is one of its sub-commands (`snapshot -c` is `snapshotCreate`),
 * options have its names and its spelling of values. Paths are absolute, sizes and offsets are bytes.
 */

/** Formats that an image can be made in. */
export type WritableFormat = Exclude<ImageFormat, 'vmdk'>;

/** An existing image; its format is said, never guessed. */
export interface ImageReference {
  readonly path: string;
  readonly format: ImageFormat;
}

/** A backing file as it is written into the header. */
export interface BackingReference {
  /** As it is recorded: absolute, or relative to the folder of the image that records it. */
  readonly name: string;
  readonly format: ImageFormat;
}

/** `-o` of `create`, `amend`, `convert` and `measure`: `cluster_size`, `compat`, `preallocation`, ... by qemu-img's names. */
export type FormatOptions = Readonly<Record<string, string>>;

export type PreallocationMode = 'off' | 'metadata' | 'falloc' | 'full';

export interface SnapshotReference extends ImageReference {
  /** The snapshot's ID or name; an ID wins, as in qemu-img. */
  readonly snapshot: string;
}

export interface BitmapReference extends ImageReference {
  readonly bitmap: string;
}

export interface ComparisonResult {
  readonly identical: boolean;
  /** One sentence: that they are the same, or where and how they differ. */
  readonly summary: string;
  /** The first guest offset that differs; null when there is none to name. */
  readonly guestOffset: number | null;
}

export interface ConvertResult {
  /** Bytes that could not be read and became zeroes; only with `salvage`. */
  readonly unreadable: number;
  /** Names of bitmaps that were not copied since they had not been stored properly. */
  readonly skippedBitmaps: readonly string[];
}

export interface MeasureResult {
  /** Bytes of a new file with what the image holds. */
  readonly required: number;
  /** Bytes of that file when the guest has written everywhere. */
  readonly fullyAllocated: number;
  /** Bytes that its bitmaps would need; null when none can be copied. */
  readonly bitmaps: number | null;
}

export interface ManageRequests {
  create: {
    params: {
      readonly path: string;
      readonly format: WritableFormat;
      /** Null: as large as the backing file. */
      readonly size: number | null;
      readonly backing: BackingReference | null;
      readonly options: FormatOptions;
    };
    result: null;
  };
  resize: {
    params: ImageReference & { readonly size: number; readonly shrink: boolean; readonly preallocation: PreallocationMode };
    result: null;
  };
  snapshotCreate: { params: SnapshotReference; result: null };
  snapshotApply: { params: SnapshotReference; result: null };
  /** `qemu-img snapshot -d` knows names only; an ID leaves no doubt. */
  snapshotDelete: { params: ImageReference & { readonly id: string; readonly name: string }; result: null };
  /** `granularity` in bytes; null leaves it to the format. */
  bitmapAdd: { params: BitmapReference & { readonly granularity: number | null; readonly enabled: boolean }; result: null };
  bitmapRemove: { params: BitmapReference; result: null };
  bitmapClear: { params: BitmapReference; result: null };
  bitmapEnable: { params: BitmapReference; result: null };
  bitmapDisable: { params: BitmapReference; result: null };
  /** Adds what `source` marks to `bitmap`. */
  bitmapMerge: { params: BitmapReference & { readonly source: BitmapReference }; result: null };
  amend: { params: ImageReference & { readonly options: FormatOptions }; result: null };
  convert: {
    params: {
      readonly source: ImageReference;
      /** An internal snapshot of the source by ID or name; null for its active state. */
      readonly snapshot: string | null;
      readonly target: string;
      readonly targetFormat: WritableFormat;
      readonly options: FormatOptions;
      readonly compress: boolean;
      /** What cannot be read becomes zeroes. */
      readonly salvage: boolean;
      /** Copies persistent bitmaps too, but for broken ones; qcow2 only. */
      readonly bitmaps: boolean;
    };
    result: ConvertResult;
  };
  measure: {
    params: { readonly source: ImageReference; readonly targetFormat: WritableFormat; readonly options: FormatOptions };
    result: MeasureResult;
  };
  /** `unsafe` only writes the name; otherwise what the guest reads stays the same. Null as backing file makes it stand alone. */
  rebase: { params: ImageReference & { readonly backing: BackingReference | null; readonly unsafe: boolean }; result: null };
  /** Into `base`, the path of an image of the chain (null: the backing file). `keepTop` leaves the image's own data in place. */
  commit: { params: ImageReference & { readonly base: string | null; readonly keepTop: boolean }; result: null };
  compare: {
    params: { readonly first: ImageReference; readonly second: ImageReference; readonly strict: boolean };
    result: ComparisonResult;
  };
}

export type ManageMethod = keyof ManageRequests;

export interface ManageCall<M extends ManageMethod = ManageMethod> {
  readonly method: M;
  readonly params: ManageRequests[M]['params'];
  readonly progressToken: string | null;
  /** The person was told that nothing keeps other processes from writing here, and went on. */
  readonly withoutLocks: boolean;
}

export const manageCall = new RequestType<ManageCall, ManageRequests[ManageMethod]['result'], WireError>('manage/call');
