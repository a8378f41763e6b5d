import * as path from 'node:path';

import type { JobInfo, JobRequest } from '../../protocol/jobs';
import type { RowIcon } from '../chains/rows';
import { formatBytes, formatBytesExactly } from '../text/bytes';
import { formatDuration } from '../text/durations';
import { escapeMarkdown } from '../text/markdown';
import { plainText } from '../text/plain';
import { actionsOf, hasEnded, imageOf, wasInterrupted, type JobEntry } from './jobEntry';

/** Characters of a name in a row, whose state stands behind it, and elsewhere. */
const SHORT_NAME = 20;
const LONG_NAME = 80;

/** A row of the view, ready to be drawn; all text but the tooltip's is plain. */
export interface JobRow {
  readonly label: string;
  readonly description: string;
  readonly icon: RowIcon;
  /** Markdown; nothing out of a name stands in it unescaped. */
  readonly tooltip: string;
  /** Words for the `when` clauses of the menus, each surrounded by spaces. */
  readonly context: string;
}

export function jobRow(entry: JobEntry): JobRow {
  const state = describeState(entry);
  return {
    label: titleOf(entry.job.request, SHORT_NAME),
    description: [...(state === 'running' && entry.job.totalProgress > 0 ? [] : [state]), ...describeProgress(entry)].join(' · '),
    icon: iconOf(entry),
    tooltip: tooltipOf(entry, state),
    context: ` job ${actionsOf(entry).join(' ')} `,
  };
}

/** `Stream top.qcow2`. */
export function titleOf(request: JobRequest, longest = LONG_NAME): string {
  return `${verbOf(request)} ${plainText(path.basename(imageOf(request)), longest)}`;
}

/** What goes on, while it does: "Streaming into top.qcow2". */
export function activityOf(request: JobRequest): string {
  const name = nameOf(imageOf(request));
  switch (request.type) {
    case 'stream':
      return request.base === null && request.bottom === null && request.range === null ? `Flattening ${name}` : `Streaming into ${name}`;
    case 'commit':
      return `Committing ${nameOf(request.top ?? request.image.path)}`;
    case 'mirror':
      return `Mirroring ${name} to ${nameOf(request.target)}`;
    case 'rebase':
      return request.backing === null ? `Rebasing ${name}` : `Rebasing ${name} onto ${nameOf(request.backing.name)}`;
    case 'allocate':
      return `Allocating space for ${name}`;
    case 'trim':
      return `Looking for zeroes in ${name}`;
  }
}

/** What has come of a job that is done. */
export function resultOf(request: JobRequest): string {
  const name = nameOf(imageOf(request));
  switch (request.type) {
    case 'stream':
      if (request.range !== null) {
        return `${name} holds that part of its disk itself now.`;
      }
      return request.base === null && request.bottom === null
        ? `${name} holds all of its disk itself now and has no backing file.`
        : `${name} holds what lay between and builds on ${nameOf(request.base ?? request.bottom ?? '')} now.`;
    case 'commit':
      return `${nameOf(request.top ?? request.image.path)} is committed${request.base === null ? '' : ` into ${nameOf(request.base)}`}.`;
    case 'mirror':
      return `${nameOf(request.target)} holds what ${name} held, and is in use in its place.`;
    case 'rebase':
      return request.backing === null
        ? `${name} holds all of its disk itself now and has no backing file.`
        : `${name} now builds on ${nameOf(request.backing.name)}.`;
    case 'allocate':
      return `No write to ${request.range === null ? name : `that part of ${name}`} can fail for want of space any more.`;
    case 'trim':
      return `Zeroes in ${request.range === null ? name : `that part of ${name}`} take no space any more.`;
  }
}

/** How much is done, 0 to 1; nothing as long as the job does not know how much there is. */
export function fractionOf({ currentProgress, totalProgress, outcome }: JobInfo): number {
  return totalProgress > 0 ? Math.min(currentProgress / totalProgress, 1) : outcome === 'completed' ? 1 : 0;
}

/** In a few words; never "100 %" before it is so. */
export function percentOf(job: JobInfo): string {
  return `${Math.floor(fractionOf(job) * 100)} %`;
}

function verbOf(request: JobRequest): string {
  switch (request.type) {
    case 'stream':
      return request.base === null && request.bottom === null && request.range === null ? 'Flatten' : 'Stream';
    case 'commit':
      return 'Commit';
    case 'mirror':
      return 'Mirror';
    case 'rebase':
      return 'Rebase';
    case 'allocate':
      return 'Allocate';
    case 'trim':
      return 'Trim';
  }
}

function describeState(entry: JobEntry): string {
  const { job } = entry;
  if (wasInterrupted(entry)) {
    return 'interrupted';
  }
  if (job.outcome !== null) {
    return job.outcome === 'completed' ? 'done' : job.outcome === 'cancelled' ? 'cancelled' : `failed: ${messageOf(job)}`;
  }
  switch (job.status) {
    case 'created':
      return 'starting';
    case 'running':
      return holdOf(job) ?? 'running';
    case 'paused':
    case 'standby':
      return job.error === null ? 'paused' : `stopped: ${messageOf(job)}`;
    case 'ready':
      return 'ready to be completed';
    case 'waiting':
    case 'pending':
      return 'waiting to be finalized';
    case 'aborting':
      return 'being cancelled';
    case 'concluded':
    case 'null':
      return 'done';
  }
}

function holdOf({ hold }: JobInfo): string | null {
  switch (hold) {
    case 'idle':
      return 'waiting for idle';
    case 'system':
      return 'held by system pressure';
    case 'speed':
    case null:
      // Held at its limit for the next fraction of a second: that is how it runs.
      return null;
  }
}

function describeProgress(entry: JobEntry): readonly string[] {
  const { job } = entry;
  const { currentProgress: done, totalProgress: total, speed, rate, remainingMs, status } = job;
  if (job.outcome === 'completed') {
    return [formatBytes(done)];
  }
  if (total === 0) {
    return [];
  }
  const amount = `${formatBytes(done)} of ${formatBytes(total)}`;
  if (hasEnded(entry)) {
    return [amount];
  }
  return [
    // A narrow view cuts off the end.
    ...(status === 'ready' ? [] : [percentOf(job)]),
    ...(status === 'running' && remainingMs !== null && done < total ? [`${formatDuration(remainingMs)} left`] : []),
    ...(status === 'running' && rate > 0 ? [`${formatBytes(Math.round(rate))}/s`] : []),
    amount,
    ...(speed > 0 ? [`copies at most ${formatBytes(speed)}/s`] : []),
  ];
}

function iconOf(entry: JobEntry): RowIcon {
  const { job } = entry;
  if (wasInterrupted(entry)) {
    return { id: 'debug-disconnect', color: 'problemsWarningIcon.foreground' };
  }
  if (job.outcome !== null) {
    return job.outcome === 'completed'
      ? { id: 'pass-filled', color: 'testing.iconPassed' }
      : job.outcome === 'cancelled'
        ? { id: 'circle-slash', color: null }
        : { id: 'error', color: 'problemsErrorIcon.foreground' };
  }
  switch (job.status) {
    case 'paused':
    case 'standby':
      return job.error === null ? { id: 'debug-pause', color: null } : { id: 'warning', color: 'problemsWarningIcon.foreground' };
    case 'ready':
      return { id: 'pass', color: 'testing.iconPassed' };
    default:
      return job.hold === 'idle' || job.hold === 'system' ? { id: 'watch', color: null } : { id: 'play-circle', color: 'charts.blue' };
  }
}

function tooltipOf(entry: JobEntry, state: string): string {
  const { job, lost } = entry;
  const { request, settings, currentProgress, totalProgress, speed } = job;
  const rows: readonly (readonly [string, string])[] = [
    ['State', state],
    ['Image', imageOf(request)],
    ...placesOf(request),
    ['Done', formatBytesExactly(currentProgress)],
    ['In all', formatBytesExactly(totalProgress)],
    ['Limit', speed > 0 ? `${formatBytes(speed)}/s` : 'none'],
    ['Pace', settings.pace.kind === 'idle' ? `while the guest is idle for ${settings.pace.graceMs} ms` : 'full speed'],
    ...(job.error === null ? [] : [['Error', job.error.message] as const]),
    ...(lost === null ? [] : [['Engine', lost] as const]),
  ];
  const advice = wasInterrupted(entry) ? '\n\nThe image is consistent. *Resume* goes on from what was copied.' : '';
  return (
    [
      `**${escapeMarkdown(titleOf(request))}**`,
      '',
      '| | |',
      '|:--|:--|',
      ...rows.map(([name, value]) => `| ${name} | ${escapeMarkdown(value)} |`),
    ].join('\n') + advice
  );
}

function placesOf(request: JobRequest): readonly (readonly [string, string])[] {
  switch (request.type) {
    case 'stream':
      return request.base === null ? [] : [['Stays below', request.base]];
    case 'commit':
      return [
        ...(request.top === null ? [] : [['From', request.top] as const]),
        ...(request.base === null ? [] : [['Into', request.base] as const]),
      ];
    case 'mirror':
      return [['To', request.target]];
    case 'rebase':
      return [['New backing file', request.backing?.name ?? 'none']];
    case 'allocate':
    case 'trim':
      return [];
  }
}

function messageOf({ error }: JobInfo): string {
  return plainText(error?.message ?? 'no reason was given', 200);
}

function nameOf(file: string): string {
  return plainText(path.basename(file), LONG_NAME);
}
