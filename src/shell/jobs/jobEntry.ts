import type { JobInfo, JobRequest, JobStatus, JobVerb } from '../../protocol/jobs';

/** A job as the window has it: one that the engine runs or keeps, or one whose engine is gone. */
export interface JobEntry {
  /** Stays the same as long as the job is shown. */
  readonly key: string;
  readonly job: JobInfo;
  /** Why its engine is gone; null while it is there. The job's own state is the last that was told of it. */
  readonly lost: string | null;
}

/** What a person may do to a job. */
export type JobAction = 'pause' | 'resume' | 'cancel' | 'complete' | 'finalize' | 'speed' | 'retry' | 'dismiss';

const ALIVE: readonly JobStatus[] = ['created', 'running', 'paused', 'ready', 'standby'];

/** The states in which a job takes a verb, as QEMU has them; a running job is not resumed, nor a paused one paused. */
const WHEN: Readonly<Record<Exclude<JobVerb, 'dismiss' | 'set-speed'>, readonly JobStatus[]>> = {
  pause: ['created', 'running', 'ready'],
  resume: ['paused', 'standby'],
  cancel: [...ALIVE, 'waiting', 'pending'],
  complete: ['ready'],
  finalize: ['pending'],
};

/** Whether nothing more happens to its images. */
export function hasEnded({ job, lost }: JobEntry): boolean {
  return lost !== null || job.status === 'concluded' || job.status === 'null';
}

/** Whether it ended before it was done because its engine did. */
export function wasInterrupted({ job, lost }: JobEntry): boolean {
  return lost !== null && job.outcome === null;
}

/** What can be done to a job as it is. */
export function actionsOf(entry: JobEntry): readonly JobAction[] {
  if (hasEnded(entry)) {
    return entry.job.outcome === 'completed' ? ['dismiss'] : ['retry', 'dismiss'];
  }
  const { status } = entry.job;
  const verbs = (Object.keys(WHEN) as (keyof typeof WHEN)[]).filter((verb) => WHEN[verb].includes(status));
  return [...verbs, ...(ALIVE.includes(status) ? (['speed'] as const) : [])];
}

/** The image that a job is about. */
export function imageOf({ image }: JobRequest): string {
  return image.path;
}
