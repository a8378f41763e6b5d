import type { WireError } from './engine';

/** QEMU's JobStatus (qapi/job.json). */
export type JobStatus = 'created' | 'running' | 'paused' | 'ready' | 'standby' | 'waiting' | 'pending' | 'aborting' | 'concluded' | 'null';

/** What a job may be told (QEMU's JobVerb). */
export type JobVerb = 'cancel' | 'pause' | 'resume' | 'set-speed' | 'complete' | 'finalize' | 'dismiss';

export type JobType = 'stream' | 'commit' | 'mirror' | 'rebase' | 'allocate' | 'convert';

/** What happens on an I/O error (QEMU's BlockdevOnError). */
export type OnError = 'report' | 'ignore' | 'stop' | 'enospc';

/**
 * Why a job that is not paused by a person copies nothing at the moment: the guest is using the disk, the whole system is under I/O
 * pressure, or its speed limit is used up.
 */
export type JobHold = 'idle' | 'system' | 'speed';

/** How a job ended. */
export type JobOutcome = 'completed' | 'cancelled' | 'failed';

/** A job as query-jobs describes it, with what a person wants to know besides. */
export interface JobInfo {
  readonly id: string;
  readonly type: JobType;
  readonly status: JobStatus;
  /** Bytes done; never falls. */
  readonly currentProgress: number;
  /** Bytes in all as known now; may grow while a guest writes, never below `currentProgress`. */
  readonly totalProgress: number;
  /** Bytes per second over the last seconds; 0 when it does not run. */
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
