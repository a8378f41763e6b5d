import type { ImageFormat } from '../../../protocol/chain';
import type { CacheStatus } from '../../../protocol/exports';
import type { LayerView } from '../../../protocol/place';
import type { Qcow2Hooks } from '../../formats/qcow2/write/nodeOptions';
import type { OpeningGate } from '../../gate/gate';
import type { BlockNode } from '../blockNode';
import type { Openers } from '../../chain/follow';
import type { Layer } from '../../chain/layer';
import type { GuestObserver, TrackedNode } from '../trackedNode';

export interface BlockGraphOptions {
  /** Asked before anything is opened because an image names it. */
  readonly gate: OpeningGate;
  /** Folder for the names that QEMU takes relative to where it runs. */
  readonly currentFolder?: string | undefined;
  /** How files and servers are opened for reading; each in its usual way when left out. */
  readonly open?: Openers | undefined;
  /** Bytes of tables that an image keeps in memory; 32 MiB when left out. */
  readonly cacheBytes?: number | undefined;
  /** How often who reads a cache image looks whether it could warm it, in milliseconds; 5000 when left out. */
  readonly candidacyMs?: number | undefined;
  /** Told once for each cache image that cannot take in what is read any more; whoever reads is not disturbed by it. */
  readonly onCacheProblem?: ((filename: string, problem: unknown) => void) | undefined;
}

export interface OpenImageOptions {
  /** Null: by its first bytes, and then a raw image stays one (see RawNode). */
  readonly format: ImageFormat | null;
  readonly readOnly: boolean;
  /** Nobody may change what is read here, as what a backing file holds; only `readOnly`. */
  readonly stable?: boolean | undefined;
  /** Who uses the image, as messages call it: an export, a job. */
  readonly user: string;
  /** What is written changes nothing of what is read: images that are in use as backing files may be written so. Not with `readOnly`. */
  readonly unchanged?: boolean | undefined;
  /** Reads an internal snapshot of the image, perhaps chosen when the image is seen; only `readOnly`. */
  readonly view?: LayerView | ((image: Layer) => LayerView) | undefined;
  /** Neither takes locks nor heeds those of others; only `readOnly`. */
  readonly forceShare?: boolean | undefined;
  /** The passphrase of an encrypted image, null where there is none. */
  readonly passphraseOf?: ((layer: Layer) => Uint8Array | null) | undefined;
  /** Told of what happens to the active layer: its persistent bitmaps. */
  readonly hooks?: Qcow2Hooks | undefined;
  readonly signal?: AbortSignal | undefined;
  /** False: nothing of what is written is flushed (QEMU's `cache=unsafe`), for an image that is worth nothing before it is complete. */
  readonly durable?: boolean | undefined;
  /** Cache images (docs/cache-image.md) below it take in what is read through them. */
  readonly warmCaches?: boolean | undefined;
}

/** An image that somebody uses. */
export interface OpenedImage {
  /** The image's driver may be exchanged under it; whoever has several requests to make makes them here. */
  readonly node: TrackedNode;
  /** Changes between reading and writing, without anything in flight being lost. @throws EngineError as `BlockGraph.open` */
  setReadOnly(readOnly: boolean): Promise<void>;
  /** Ends the use; the last one closes the image, and those below it that nobody uses any more. */
  close(): Promise<void>;
  /** The image and those it is built on, itself first, as they are now. */
  chain(): readonly ChainImage[];
  /**
   * Keeps the backing links from this image down to `base` (without its own; null for all) as they are until the returned function is called.
   * @throws EngineError `file.locked` when somebody else needs one of them
   */
  freeze(base: BlockNode | null, user: string): () => void;
  /**
   * Builds the image on another one that is open: one further down its chain, or any other that shows the guest the same.
   * @param record writes that into the image, while no request that changes it is in flight
   */
  relink(base: BlockNode | null, record: (image: BlockNode) => Promise<void>): Promise<void>;
  /**
   * Makes all users of this image use another, open for writing, from now on.
   * @param settle makes both show the guest the same, while no request that changes this image is in flight
   */
  pivot(target: BlockNode, settle: () => Promise<void>): Promise<void>;
  /**
   * Lets a job write one of the images below, and so change what those between read. Everybody else keeps away from them until the returned
   * function is called.
   * @throws EngineError `file.locked` when somebody outside the chain uses one of them
   */
  writeBelow(top: BlockNode, base: BlockNode, user: string): Promise<() => Promise<void>>;
  /** Tells of the requests of everybody whose disk this image is a part of, until the returned function is called. */
  watchGuests(observer: GuestObserver): () => void;
  /** Others who are built on one of this image's chain, without going through the image itself. */
  dependents(node: BlockNode): readonly string[];
}

/** One image of a chain that is in use. */
export interface ChainImage {
  readonly node: TrackedNode;
  /** Absolute. */
  readonly path: string;
  /** As QEMU has it in messages. */
  readonly filename: string;
  readonly format: ImageFormat;
  /** The name of its backing file that it had recorded when it was opened; null for none. */
  readonly backingName: string | null;
  /** For a cache image, how it does now. */
  readonly cache: CacheStatus | null;
}
