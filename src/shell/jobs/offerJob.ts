import * as path from 'node:path';

import type { JobPreview, JobRequest, JobSettings, StartJobParams } from '../../protocol/jobs';
import { SlowProgress } from '../commands/slowProgress';
import type { ManageParts } from '../commands/manage/parts';
import { dependentNames, listed, type WritableSubject } from '../commands/manage/subject';
import { isEngineDeath, messageOf } from '../errors';
import { askPermission, tellError, tellInformation } from '../messages';
import { formatBytes } from '../text/bytes';
import { plainText } from '../text/plain';
import { hasEnded, wasInterrupted, type JobEntry } from './jobEntry';
import { activityOf, fractionOf, jobRow, percentOf, resultOf, titleOf } from './jobRows';
import type { Jobs } from './jobs';
import type { JobsView } from './jobsView';

/** What jobs are offered with. */
export interface JobParts extends ManageParts {
  readonly jobs: Jobs;
  readonly jobsView: JobsView;
}

/** A job before it is started. */
export interface Offer {
  readonly subject: WritableSubject;
  readonly request: JobRequest;
  readonly settings: JobSettings;
  /** "Flatten top.qcow2?" */
  readonly question: string;
  /** "Flatten" */
  readonly action: string;
  /** What else there is to know, a paragraph each. */
  readonly remarks: readonly string[];
}

/** Shows what a job would do, and starts it when the person agrees; ends when the job does. @throws CallError */
export async function offerJob(parts: JobParts, { subject, request, settings, question, action, remarks }: Offer): Promise<void> {
  const preview = await look(parts, request);
  const effects = await effectsOf(parts, subject, request, preview);
  if (await askPermission(question, [...effects, ...remarks], action)) {
    await runJob(parts, { request, settings, withoutLocks: subject.withoutLocks });
  }
}

/** Starts a job and follows it, with a notification by which it can be cancelled; ends when the job does. @throws CallError */
export async function runJob(parts: JobParts, params: StartJobParams): Promise<void> {
  const { engine, jobs, jobsView, passphrases, log } = parts;
  const job = await passphrases.unlocking(() => engine.startJob(params));
  const { key } = jobs.entryOf(job);
  log.info(`Started the job ${job.id}: ${activityOf(job.request)}`);
  await jobsView.reveal(key);
  const progress = new SlowProgress();
  const showing = jobs.onDidChange(() => {
    const entry = jobs.find(key);
    if (entry !== null) {
      progress.describe(jobRow(entry).description.replace(`${percentOf(entry.job)} · `, ''));
      progress.advance(fractionOf(entry.job));
    }
  });
  try {
    const isOver = (entry: JobEntry): boolean => hasEnded(entry) || entry.job.status === 'ready';
    const over = jobs.until(key, isOver);
    await progress.showWhenSlow(over, activityOf(job.request), () => {
      engine.tellJob(job.id, 'cancel').catch((error: unknown) => void tellError(messageOf(error)));
    });
    const entry = await over;
    if (entry?.lost === null && entry.job.status === 'ready') {
      offerCompletion(parts, entry);
    }
    tellEnd(parts, await jobs.until(key, hasEnded), params);
    await showChanges(parts, params.request);
  } finally {
    showing.dispose();
  }
}

async function look({ engine, passphrases }: JobParts, request: JobRequest): Promise<JobPreview> {
  const cancellation = new AbortController();
  const looking = passphrases.unlocking(() => engine.previewJob(request, { signal: cancellation.signal }));
  await new SlowProgress().showWhenSlow(looking, request.type === 'trim' ? 'Looking for zeroes' : 'Looking at what would be copied', () =>
    cancellation.abort(),
  );
  return looking;
}

/** What would happen to which images, a paragraph each. */
async function effectsOf(parts: JobParts, subject: WritableSubject, request: JobRequest, preview: JobPreview): Promise<readonly string[]> {
  const { spaceNeeded, spaceFree, relinked, invalidated, dependents } = preview;
  // What builds on the image that is committed reads the same afterwards, as that does.
  const top = request.type === 'commit' ? (request.top ?? subject.path) : subject.path;
  const own = new Set([...subject.links.map((link) => link.path), subject.path, ...(await dependentNames(parts, top))]);
  const inWorkspace = await Promise.all(invalidated.map((file) => dependentNames(parts, file)));
  const broken = [...new Set(inWorkspace.flat())].filter((file) => !own.has(file) && !invalidated.includes(file));
  const short = spaceFree !== null && spaceFree < spaceNeeded;
  return [
    amountOf(request, preview),
    ...(short ? ['That may not be enough: the job would fail when the file system is full. What was copied until then stays.'] : []),
    ...relinked.map(
      ({ path: file, backing }) =>
        `Afterwards ${nameOf(file)} ${backing === null ? 'has no backing file' : `builds on ${nameOf(backing)}`}.`,
    ),
    ...(invalidated.length === 0 ? [] : ['These images do not read as before any more:', listed(invalidated)]),
    ...(broken.length === 0 ? [] : ['These build on them and would break:', listed(broken)]),
    ...(dependents.length === 0 ? [] : ['In use here, and reading through it meanwhile:', listed(dependents)]),
  ];
}

function amountOf({ type }: JobRequest, { bytesToCopy, spaceNeeded, spaceFree, written, zeroes }: JobPreview): string {
  if (zeroes) {
    const { bytes, bytesRead } = zeroes;
    return bytes === 0
      ? `Of the ${formatBytes(bytesRead)} that take space there, no cluster holds nothing but zeroes.`
      : `${formatBytes(bytes)} of the ${formatBytes(bytesRead)} that take space there hold nothing but zeroes, and can be given back.`;
  }
  if (bytesToCopy === 0 && spaceNeeded === 0) {
    return type === 'allocate' ? 'Everything there has its space already, or gets it where it is.' : 'There is nothing to copy.';
  }
  const copied = bytesToCopy === 0 ? '' : `At most ${formatBytes(bytesToCopy)} are copied. `;
  const free = spaceFree === null ? '' : `; ${formatBytes(spaceFree)} are free`;
  return `${copied}${written.map(nameOf).join(', ')} ${written.length === 1 ? 'grows' : 'grow'} by up to ${formatBytes(spaceNeeded)}${free}.`;
}

function offerCompletion({ engine }: JobParts, { job }: JobEntry): void {
  const complete = 'Complete';
  const cancel = 'Cancel';
  void (async () => {
    const message = `${titleOf(job.request)}: everything is copied, and what the guest writes is kept up with. Complete it to let the guest go on there.`;
    const answer = await tellInformation(message, complete, cancel);
    if (answer !== undefined) {
      await engine.tellJob(job.id, answer === complete ? 'complete' : 'cancel');
    }
  })().catch((error: unknown) => void tellError(messageOf(error)));
}

async function showChanges({ view }: JobParts, request: JobRequest): Promise<void> {
  try {
    await view.reread(filesOf(request));
  } catch (error) {
    // What was asked of an engine that is gone is asked again of the next.
    if (!isEngineDeath(error)) {
      throw error;
    }
  }
}

function tellEnd(parts: JobParts, entry: JobEntry | null, params: StartJobParams): void {
  const { log } = parts;
  const { request } = params;
  if (entry === null) {
    return;
  }
  const { job, lost } = entry;
  const title = titleOf(request);
  if (wasInterrupted(entry)) {
    log.warn(`${title} was interrupted: ${lost ?? ''}`);
    offerAgain(parts, entry, params, `${title} was interrupted. The image is consistent, and what was copied stays.`, 'Resume');
  } else if (job.outcome === 'completed') {
    log.info(`${title} is done`);
    void tellInformation(resultOf(request));
  } else if (job.outcome === 'failed') {
    const reason = plainText(job.error?.message ?? 'no reason was given', 400);
    log.error(`${title} failed: ${reason}`);
    offerAgain(parts, entry, params, `${title} failed: ${reason} What was copied stays.`, 'Retry');
  } else {
    log.info(`${title} was cancelled`);
  }
}

function offerAgain(parts: JobParts, entry: JobEntry, params: StartJobParams, message: string, action: string): void {
  void (async () => {
    if ((await tellError(message, action)) === action && parts.jobs.find(entry.key) !== null) {
      await parts.jobs.dismiss(entry);
      await runJob(parts, params);
    }
  })().catch((error: unknown) => void tellError(messageOf(error)));
}

/** What a job may have changed. */
function filesOf(request: JobRequest): readonly string[] {
  const { image } = request;
  switch (request.type) {
    case 'commit':
      return [image.path, request.top, request.base].filter((file) => file !== null);
    case 'mirror':
      return [image.path, request.target];
    default:
      return [image.path];
  }
}

function nameOf(file: string): string {
  return plainText(path.basename(file), 80);
}
