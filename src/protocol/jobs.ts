import { NotificationType, RequestType } from 'vscode-jsonrpc';

import type { WireError } from './engine';
import type { BackingReference, FormatOptions, ImageReference, WritableFormat } from './manage';

/*
 * Background jobs of the engine worker, in QEMU's words (qapi/job.json, qapi/block-core.json). Paths are absolute, offsets and lengths are
 * guest bytes. A job works beside the worker's NBD exports, on the same nodes. It ends with the worker; what it copied stays, and the same
 * request goes on from there.
 */

/** QEMU's JobStatus (qapi/job.json). */
export type JobStatus = 'created' | 'running' | 'paused' | 'ready' | 'standby' | 'waiting' | 'pending' | 'aborting' | 'concluded' | 'null';

/** What a job may be told (QEMU's JobVerb). */
export type JobVerb = 'cancel' | 'pause' | 'resume' | 'set-speed' | 'complete' | 'finalize' | 'dismiss';

export type JobType = 'stream' | 'commit' | 'mirror' | 'rebase' | 'allocate' | 'trim';

/** What happens on an I/O error (QEMU's BlockdevOnError). */
export type OnError = 'report' | 'ignore' | 'stop' | 'enospc';

/**
 * Why a job that is not paused by a person copies nothing at the moment: the guest is using the disk, the whole system is under I/O
 * pressure, or its speed limit is used up.
 */
export type JobHold = 'idle' | 'system' | 'speed';

/** How a job ended. */
export type JobOutcome = 'completed' | 'cancelled' | 'failed';

/** Bytes of a disk. */
export interface GuestRange {
  readonly offset: number;
  readonly length: number;
}

/** QEMU's MirrorSyncMode: all that the guest reads, or only what the image itself has. */
export type MirrorSync = 'full' | 'top';

/** What a job is asked to do. */
export type JobRequest =
  /**
   * Copies into `image` what the images between it and `base` hold, so that it no longer needs them. `image` may be the active layer or one
   * that others are built on, also while they are in use.
   */
  | {
      readonly type: 'stream';
      readonly image: ImageReference;
      /** Path of the image of its chain that stays below it; null: none (which flattens the image). */
      readonly base: string | null;
      /** Path of the lowest image whose data is copied (QEMU's `bottom`), in place of `base`. */
      readonly bottom: string | null;
      /** Only this range, and the backing link stays; null is the whole disk. */
      readonly range: GuestRange | null;
    }
  /** Copies what `top` and the images between it and `base` hold into `base`; overlays of `top` in the chain of `image` are put on `base`. */
  | {
      readonly type: 'commit';
      /** The active layer of the chain. */
      readonly image: ImageReference;
      /** Path of an image of its chain; null: the active layer itself, and then the job becomes ready and waits to be completed. */
      readonly top: string | null;
      /** Path of an image of its chain below `top`; null: the lowest. */
      readonly base: string | null;
    }
  /** Copies the guest's disk to a new image and, when it is completed, lets the guest go on there. */
  | {
      readonly type: 'mirror';
      readonly image: ImageReference;
      readonly target: string;
      readonly targetFormat: WritableFormat;
      readonly options: FormatOptions;
      readonly sync: MirrorSync;
    }
  /** Builds `image`, the active layer or one that others are built on, on another backing file (null: none); what guests read stays. */
  | { readonly type: 'rebase'; readonly image: ImageReference; readonly backing: BackingReference | null }
  /** Gives a range space of its own: as allocated zeroes, or also written out with zeroes. */
  | { readonly type: 'allocate'; readonly image: ImageReference; readonly range: GuestRange | null; readonly mode: 'metadata' | 'zero' }
  /** Gives back the space of clusters that hold nothing but zeroes. */
  | { readonly type: 'trim'; readonly image: ImageReference; readonly range: GuestRange | null };

/** How fast a job may work beside its guest. */
export type JobPace =
  | { readonly kind: 'full' }
  /** Works only while the guest asks for nothing. */
  | {
      readonly kind: 'idle';
      /** Milliseconds for which the guest must have asked for nothing. */
      readonly graceMs: number;
      /** Share of time, 0 to 1, in which programs wait for I/O from which on the whole system counts as busy; null does not look. */
      readonly systemPressure: number | null;
    };

export interface JobSettings {
  /** Bytes per second; 0 is no limit. */
  readonly speed: number;
  readonly onError: OnError;
  /** False: the job waits in `pending` until it is told `finalize`. */
  readonly autoFinalize: boolean;
  /** False: the job stays in the list when it has concluded, until it is told `dismiss`. */
  readonly autoDismiss: boolean;
  readonly pace: JobPace;
}

/** A job as query-jobs describes it, with what a person wants to know besides. */
export interface JobState {
  readonly id: string;
  readonly type: JobType;
  readonly status: JobStatus;
  /** Bytes done; never falls. */
  readonly currentProgress: number;
  /** Bytes in all as known now; may grow while a guest writes, never below `currentProgress`. */
  readonly totalProgress: number;
  /** Bytes copied per second over the last seconds, without those that were there already; 0 when it does not run. */
  readonly rate: number;
  /** Limit in bytes per second; 0 is none. */
  readonly speed: number;
  readonly hold: JobHold | null;
  /** The last error: the one that ended or stopped it, or one that it was told to ignore. */
  readonly error: WireError | null;
  /** Set once the job has ended. */
  readonly outcome: JobOutcome | null;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
}

export interface JobInfo extends JobState {
  /** What it was asked to do; the same request again goes on with what a job that failed or was cancelled has left. */
  readonly request: JobRequest;
  readonly settings: JobSettings;
  /** Milliseconds until all is done, at the present pace, also past what is there already; null where that cannot be told. */
  readonly remainingMs: number | null;
}

/** What a job would do, told before it is started. */
export interface JobPreview {
  /** Bytes of data that would be copied, at most: less where they turn out to be zeroes. */
  readonly bytesToCopy: number;
  /** Bytes by which files would grow, at most. */
  readonly spaceNeeded: number;
  /** Of a job that gives space back: the bytes that hold nothing but zeroes, of those that were read to find them. */
  readonly zeroes?: { readonly bytes: number; readonly bytesRead: number } | undefined;
  /** Bytes that the file system has left for them; null where it does not tell. */
  readonly spaceFree: number | null;
  /** Files that would be written. */
  readonly written: readonly string[];
  /** Images of the chain that would no longer read as they do now. Overlays of them that are not in the chain break with them. */
  readonly invalidated: readonly string[];
  /** Images of the chain whose backing file would change, and to what; null: none. */
  readonly relinked: readonly { readonly path: string; readonly backing: string | null }[];
  /** Images in use here that read from those that would change. What else in the workspace is built on them, the shell knows. */
  readonly dependents: readonly string[];
}

export interface StartJobParams {
  readonly request: JobRequest;
  readonly settings: JobSettings;
  /** As in `ManageCall`. */
  readonly withoutLocks: boolean;
}

/** @returns the job once it runs; what stands in its way is the error */
export const startJob = new RequestType<StartJobParams, JobInfo, WireError>('jobs/start');
export const previewJob = new RequestType<{ readonly request: JobRequest }, JobPreview, WireError>('jobs/preview');
export const listJobs = new RequestType<null, { readonly jobs: readonly JobInfo[] }, WireError>('jobs/list');
/** @throws `request.invalid` for a verb that the job cannot accept in its state, in QEMU's words */
export const tellJob = new RequestType<{ readonly id: string; readonly verb: Exclude<JobVerb, 'set-speed'> }, null, WireError>('jobs/tell');
/** `speed` in bytes per second; 0 is no limit. */
export const setJobSpeed = new RequestType<{ readonly id: string; readonly speed: number }, null, WireError>('jobs/setSpeed');
/** All jobs, after each change of state and, while some copy, four times a second. A job that is gone is in no list any more. */
export const jobsChanged = new NotificationType<{ readonly jobs: readonly JobInfo[] }>('jobs/changed');
/** A job has ended. Sent once for each, also for those that are forgotten at once. */
export const jobEnded = new NotificationType<{ readonly job: JobInfo }>('jobs/ended');
