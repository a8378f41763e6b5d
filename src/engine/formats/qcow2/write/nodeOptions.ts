import type { Awaitable } from '../../../awaitable';
import type { BlockNode } from '../../../block/blockNode';
import type { Storage } from '../../../io/storage';
import type { ClusterCipher } from '../crypto/clusterCipher';
import type { Qcow2Node } from './qcow2Node';

/** Told of what happens to an image that is open for writing: persistent bitmaps. */
export interface Qcow2Hooks {
  /** A guest's bytes change, or become zero; called before they do. */
  onGuestChange?(guestOffset: number, length: number): void;
  /** Before the first change after opening; whatever it writes is on the disk before the change. */
  beforeFirstChange?(node: Qcow2Node): Awaitable<void>;
  /** Before the disk's size changes, and after: bitmaps follow it. */
  beforeResize?(): Awaitable<void>;
  afterResize?(size: number): void;
  /** The image is closed, or changed as a whole; everything else was written. */
  beforeClose?(node: Qcow2Node): Awaitable<void>;
}

export interface Qcow2NodeOptions {
  /** The node owns it, and the data file, from then on. */
  readonly storage: Storage;
  /** Where guest data lies, for images that keep it elsewhere. */
  readonly dataFile?: Storage | null | undefined;
  /** Opened for what unallocated ranges are read from; it stays its owner's to close. */
  readonly backing: BlockNode | null;
  readonly nodeName: string;
  /** The image's name as QEMU has it in messages; the storage's when left out. */
  readonly filename?: string | undefined;
  readonly readOnly: boolean;
  /** Bytes of tables to keep; 32 MiB when left out. */
  readonly cacheBytes?: number | undefined;
  /** For encrypted images. */
  readonly cipher?: ClusterCipher | null | undefined;
  /** When left out the image's persistent bitmaps are kept; whoever gives others sees to that. */
  readonly hooks?: Qcow2Hooks | undefined;
}
