import { NotificationType, ProgressType, RequestType } from 'vscode-jsonrpc';

import type { Chain, ChainLink, ImageFormat, RefusalReason } from './chain';
import type { CheckOptions, CheckReport } from './check';
import type {
  ClusterInspection,
  HexPage,
  Location,
  MapCellInfo,
  MapRequest,
  MapShape,
  MapTile,
  MapTileRequest,
  Overview,
  SnapshotsAndBitmaps,
  TablePage,
  TableRequest,
  TableShape,
  Usage,
} from './inspect';
import type { LayerView, TableId } from './place';

/*
 * Requests to the engine worker. The image requests are also what the webview sends: the shell adds the session and passes them on, so
 * both legs share one list. Cancellation and progress are vscode-jsonrpc's own.
 */

/** An error that crossed a port; `code` is an ErrorCode of the engine. */
export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly file: string | null;
  readonly structure: string | null;
  readonly hostOffset: number | null;
  readonly remedy: string | null;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
}

/** Progress of any request that carries a `progressToken`. */
export const progressType = new ProgressType<Progress>();

/** Requests about one opened image. `Params` never names the session: the transport's envelope does. */
export interface ImageRequests {
  overview: { params: null; result: Overview };
  usage: { params: null; result: Usage };
  tables: { params: { view: LayerView }; result: readonly TableShape[] };
  tablePage: { params: TableRequest; result: TablePage };
  /** Next row after (before, when `backwards`) `row` whose entry is not empty; -1 when there is none. */
  nextUsedRow: { params: { table: TableId; row: number; backwards: boolean }; result: number };
  snapshotsAndBitmaps: { params: null; result: SnapshotsAndBitmaps };
  /** Address as the person typed it: `4G`, `0x1f0000`, `c:1024`, `h:64K`; `space` decides for plain numbers. */
  locate: { params: { address: string; space: 'guest' | 'host' }; result: Location };
  inspectCluster: { params: { space: 'guest' | 'host'; offset: number; view: LayerView }; result: ClusterInspection };
  hex: { params: { hostOffset: number; length: number }; result: HexPage };
  /** Finds bytes in the file; null when there is none further on. */
  findBytes: { params: { pattern: Uint8Array; from: number }; result: number | null };
  mapShape: { params: MapRequest; result: MapShape };
  mapTile: { params: MapTileRequest; result: MapTile };
  /** `cell` counts in the order's cells at `level`. */
  mapCell: { params: MapRequest & { level: number; x: number; y: number }; result: MapCellInfo };
  /** Cell at level 0 that holds an offset. */
  mapFind: { params: MapRequest & { offset: number }; result: { x: number; y: number } };
  check: { params: CheckOptions; result: CheckReport };
  /**
   * Shows the data of the chain's encrypted layers from now on, with the passphrases that the worker was given; the session changes then.
   * Fails with `data.encrypted` or `data.passphrase` and the file that wants one. Layers that are not encrypted count for nothing.
   */
  unlock: { params: null; result: { readonly encrypted: number } };
}

export type ImageMethod = keyof ImageRequests;

/** A request to a session: which image, which method. One wire method carries all, so that the shell can relay without knowing each. */
export interface ImageCall<M extends ImageMethod = ImageMethod> {
  readonly session: number;
  readonly method: M;
  readonly params: ImageRequests[M]['params'];
  readonly progressToken: string | null;
}

export const imageCall = new RequestType<ImageCall, ImageRequests[ImageMethod]['result'], WireError>('image/call');

export interface OpenParams {
  readonly path: string;
  /** Null: probe. */
  readonly format: ImageFormat | null;
}

/** Opens a session on an image and its chain (as far as the gate lets it). */
export const openSession = new RequestType<OpenParams, { readonly session: number }, WireError>('session/open');
export const closeSession = new RequestType<{ readonly session: number }, null, WireError>('session/close');

export interface DescribeParams extends OpenParams {
  /** Asks servers that did not answer a moment ago, too. */
  readonly fresh?: boolean;
}

/** Describes a chain for the tree without keeping anything open. */
export const describeChain = new RequestType<DescribeParams, Chain, WireError>('chain/describe');

/** Which of these files are images, by magic; raw is never an answer. */
export const probeFiles = new RequestType<
  { readonly paths: readonly string[] },
  { readonly formats: readonly (ImageFormat | null)[] },
  WireError
>('chain/probe');

/** Writes the sample images into an existing, empty folder. */
export const writeSample = new RequestType<{ readonly folder: string }, null, WireError>('sample/write');

/** A file (or address) that an image names and the worker would open. */
export interface GateQuestion {
  /** Absolute path of the image that holds the name. */
  readonly image: string;
  readonly role: 'backing' | 'data-file' | 'extent';
  /** The name as it stands in the image. */
  readonly recordedName: string;
  /** Absolute path with symbolic links resolved as far as they exist; null when the name is no local file. */
  readonly path: string | null;
  /** The prefix of a protocol name (`json`, `nbd`, `http`, ...); null for a plain file name. */
  readonly protocol: string | null;
  /** The address, where the name leads to a server that can be read; null otherwise. */
  readonly address: string | null;
}

export interface GateAnswer {
  readonly allowed: boolean;
  readonly reason: RefusalReason | null;
  /** Absolute path of a file that the person named to be opened in the named one's place; only when allowed. */
  readonly replacement?: string | undefined;
}

/** The worker asks the shell whether a file that an image names may be opened. */
export const askGate = new RequestType<GateQuestion, GateAnswer, WireError>('gate/ask');

/** The session's image or one of its chain's files changed on disk and was read again. `moved` are host ranges whose metadata differs. */
export const imageChanged = new NotificationType<{
  readonly session: number;
  readonly links: readonly ChainLink[];
  readonly changedFields: readonly string[];
}>('session/changed');
