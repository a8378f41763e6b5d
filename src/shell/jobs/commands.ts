import { allocateImage } from './allocateImage';
import { commitRunning } from './commitRunning';
import { cancelJob, completeJob, dismissEndedJobs, dismissJob, pauseJob, resumeJob, retryJob, setJobSpeed } from './jobCommands';
import { mirrorImage } from './mirrorImage';
import type { JobParts } from './offerJob';
import { rebaseRunning } from './rebaseRunning';
import { flattenImage, streamImage } from './streamImage';
import { trimImage } from './trimImage';

/** The commands that start jobs and that are about jobs, by the last part of their identifiers. */
export const JOB_COMMANDS = {
  allocateImage,
  cancelJob,
  commitRunning,
  completeJob,
  dismissEndedJobs: (parts: JobParts) => dismissEndedJobs(parts),
  dismissJob,
  flattenImage,
  mirrorImage,
  pauseJob,
  rebaseRunning,
  resumeJob,
  retryJob,
  setJobSpeed,
  streamImage,
  trimImage,
} as const satisfies Readonly<Record<string, (parts: JobParts, argument: unknown) => Promise<void>>>;

export type JobCommand = keyof typeof JOB_COMMANDS;
