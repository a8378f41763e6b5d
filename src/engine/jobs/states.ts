import type { JobStatus, JobVerb } from '../../protocol/jobs';

/* Which state may follow which, and what a job may be told in each: QEMU's tables (job.c, qapi/job.json). */

const NEXT: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  created: ['running', 'aborting', 'null'],
  running: ['paused', 'ready', 'waiting', 'aborting'],
  paused: ['running'],
  ready: ['standby', 'waiting', 'aborting'],
  standby: ['ready'],
  waiting: ['pending', 'aborting'],
  pending: ['aborting', 'concluded'],
  aborting: ['aborting', 'concluded'],
  concluded: ['null'],
  null: [],
};

const ALIVE: readonly JobStatus[] = ['created', 'running', 'paused', 'ready', 'standby'];

const VERBS: Readonly<Record<JobVerb, readonly JobStatus[]>> = {
  cancel: [...ALIVE, 'waiting', 'pending'],
  pause: ALIVE,
  resume: ALIVE,
  'set-speed': ALIVE,
  complete: ['ready'],
  finalize: ['pending'],
  dismiss: ['concluded'],
};

export function mayFollow(from: JobStatus, to: JobStatus): boolean {
  return NEXT[from].includes(to);
}

export function mayBeTold(status: JobStatus, verb: JobVerb): boolean {
  return VERBS[verb].includes(status);
}

/** Whether nothing more will happen to the image. */
export function hasEnded(status: JobStatus): boolean {
  return status === 'concluded' || status === 'null';
}
