import * as vscode from 'vscode';

import { chooseWritable } from '../commands/manage/subject';
import { runWizard } from '../commands/manage/wizard';
import { tellInformation } from '../messages';
import { actionsOf, hasEnded, imageOf, type JobAction, type JobEntry } from './jobEntry';
import { titleOf } from './jobRows';
import { runJob, type JobParts } from './offerJob';
import { parseSpeed, speedField } from './speed';

/* The commands on jobs: of their rows, and of the palette. */

export async function pauseJob(parts: JobParts, argument: unknown): Promise<void> {
  await tell(parts, argument, 'pause');
}

export async function resumeJob(parts: JobParts, argument: unknown): Promise<void> {
  await tell(parts, argument, 'resume');
}

export async function completeJob(parts: JobParts, argument: unknown): Promise<void> {
  await tell(parts, argument, 'complete');
}

/** *Cancel Job*: what was copied stays, and the image reads as before. */
export async function cancelJob(parts: JobParts, argument: unknown): Promise<void> {
  await tell(parts, argument, 'cancel');
}

/** *Retry or Resume Job*: the same again, which goes on from what was copied. */
export async function retryJob(parts: JobParts, argument: unknown): Promise<void> {
  const entry = await choose(parts, argument, 'retry');
  if (entry === null) {
    return;
  }
  const { request, settings } = entry.job;
  const subject = await chooseWritable(parts, vscode.Uri.file(imageOf(request)), ['qcow2', 'qed', 'raw']);
  if (subject !== null) {
    await parts.jobs.dismiss(entry);
    await runJob(parts, { request, settings, withoutLocks: subject.withoutLocks });
  }
}

/** *Dismiss Job*. */
export async function dismissJob(parts: JobParts, argument: unknown): Promise<void> {
  const entry = await choose(parts, argument, 'dismiss');
  if (entry !== null) {
    await parts.jobs.dismiss(entry);
  }
}

/** *Dismiss All That Have Ended*. */
export async function dismissEndedJobs({ jobs }: JobParts): Promise<void> {
  for (const entry of jobs.entries.filter(hasEnded)) {
    await jobs.dismiss(entry);
  }
}

/** *Limit Speed…*. */
export async function setJobSpeed(parts: JobParts, argument: unknown): Promise<void> {
  const entry = await choose(parts, argument, 'speed');
  if (entry === null) {
    return;
  }
  const speed = await runWizard<number>(`Speed of ${titleOf(entry.job.request)}`, entry.job.speed, [
    { ask: async (page, current) => parseSpeed(await page.text(speedField(current))) ?? current },
  ]);
  if (speed !== null) {
    await parts.engine.setJobSpeed(entry.job.id, speed);
  }
}

async function tell(parts: JobParts, argument: unknown, action: 'pause' | 'resume' | 'cancel' | 'complete'): Promise<void> {
  const entry = await choose(parts, argument, action);
  if (entry !== null) {
    await parts.engine.tellJob(entry.job.id, action);
  }
}

/** The job that is meant, as it is now; null, and said, when there is none to which that can be done. */
async function choose({ jobs, jobsView }: JobParts, argument: unknown, action: JobAction): Promise<JobEntry | null> {
  const chosen = await jobsView.choose(argument, action);
  const entry = chosen === null ? null : jobs.find(chosen.key);
  if (entry === null || !actionsOf(entry).includes(action)) {
    void tellInformation(
      chosen === null ? 'There is no job to which that can be done.' : `${titleOf(chosen.job.request)} has gone on meanwhile.`,
    );
    return null;
  }
  return entry;
}
