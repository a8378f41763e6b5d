import { NotificationType, RequestType } from 'vscode-jsonrpc';

import type { ImageFormat } from './chain';
import type { WireError } from './engine';

/* NBD exports of the engine worker. They end with it. */

/** Only clients with TLS are served. */
export interface ExportTls {
  /** Absolute path of a folder with `ca-cert.pem`, `server-cert.pem` and `server-key.pem`. */
  readonly folder: string;
  /** Clients must show a certificate that `ca-cert.pem` has signed. */
  readonly verifyClients: boolean;
}

/** Where an export listens. */
export type ExportAddress =
  | { readonly kind: 'unix'; readonly path: string }
  /** Port 0: the system chooses one. */
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

export interface ExportParams {
  /** Absolute path of the image. */
  readonly path: string;
  readonly format: ImageFormat;
  /** NBD's export name; empty is the default export. */
  readonly name: string;
  readonly writable: boolean;
  readonly address: ExportAddress;
  /** The person agreed to an address that other machines can reach. */
  readonly allowRemote: boolean;
  /** Null: nothing is encrypted. */
  readonly tls: ExportTls | null;
  /** As in `ManageCall`. */
  readonly withoutLocks: boolean;
  /** Bytes for metadata caches of the chain. */
  readonly cacheBytes: number;
}

/** An image on a server that does not answer at the moment: it is tried again, or was given up until somebody reads the next time. */
export interface UnreachableImage {
  /** The address, as QEMU has it in messages. */
  readonly name: string;
  readonly state: 'retrying' | 'offline';
}

/**
 * What a cache image does: `warming` takes in what is read; `full` has reached its quota; `reading` was left to another process, or cannot
 * be written; `failed` could not write what it took in. Whatever it is, reads go through it.
 */
export type CacheState = 'warming' | 'full' | 'reading' | 'failed';

/** A cache image in use, for a person to see. All sizes in bytes. */
export interface CacheStatus {
  readonly filename: string;
  readonly state: CacheState;
  readonly quota: number;
  /** Length of its file. */
  readonly used: number;
  /** Read from the cache, and so not from its base; since it was opened. */
  readonly hits: number;
  /** Read from the base. */
  readonly misses: number;
  /** Copied from the base into the cache: whole clusters. */
  readonly copied: number;
  /** Why it does not take in more, where that is not the quota. */
  readonly problem: string | null;
}

/**
 * Copy-on-read of an export: what clients read from the backing files is copied into the image, so that it is read there the next time.
 * Sizes in bytes.
 */
export interface CopyOnReadStatus {
  readonly on: boolean;
  /** Read from the image itself, while it was on. */
  readonly hits: number;
  /** Read from the backing files, while it was on. */
  readonly misses: number;
  /** Why something was not copied, of the last time that it was switched on; what was read went to the client all the same. */
  readonly problem: string | null;
}

export interface ExportInfo {
  readonly id: number;
  readonly path: string;
  readonly format: ImageFormat;
  readonly name: string;
  readonly writable: boolean;
  readonly tls: boolean;
  /** With the port that the system chose. */
  readonly address: ExportAddress;
  /** For qemu, nbdinfo and the like: `nbd+unix:///name?socket=…`, `nbd://127.0.0.1:10809/name`; `nbds` with TLS. */
  readonly uri: string;
  /** Size of the disk in bytes. */
  readonly size: number;
  /** Images of the chain that cannot be reached; empty when all is well. */
  readonly unreachable: readonly UnreachableImage[];
  /** The cache images of the chain, from the top down. */
  readonly caches: readonly CacheStatus[];
  /** Null where there is nothing to copy, or nowhere to copy it to: without a backing file, or read-only. */
  readonly copyOnRead: CopyOnReadStatus | null;
  /** Connected now. */
  readonly clients: number;
  /** Since the start. */
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** Why a cache image takes in nothing more. What reads it goes on. */
export interface CacheFailure {
  /** As QEMU has it in messages. */
  readonly filename: string;
  readonly reason: string;
}

/** @returns the export once it listens */
export const startExport = new RequestType<ExportParams, ExportInfo, WireError>('exports/start');
/** Ends when all clients are gone and everything is on the disk. */
export const stopExport = new RequestType<{ readonly id: number }, null, WireError>('exports/stop');
/** Takes effect with the next read; copies in flight end as they are. */
export const setCopyOnRead = new RequestType<{ readonly id: number; readonly on: boolean }, null, WireError>('exports/setCopyOnRead');
export const stopAllExports = new RequestType<null, null, WireError>('exports/stopAll');
/** Something of the exports is other than it was last told. */
export const exportsChanged = new NotificationType<{ readonly exports: readonly ExportInfo[] }>('exports/changed');
/** A cache image takes in nothing more, for another reason than its quota. Sent once for each that is warmed. */
export const cacheFailed = new NotificationType<CacheFailure>('exports/cacheFailed');
