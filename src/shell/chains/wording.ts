import type { ImageSummary, RefusalReason, UsageState } from '../../protocol/chain';
import { formatBytes } from '../text/bytes';
import { plainText } from '../text/plain';

/** `in use by qemu-system-x86 (1234)`. */
export function describeUsage({ holders }: UsageState): string {
  const named = holders.slice(0, 3).map(({ command, pid }) => `${plainText(command, 40)} (${pid})`);
  const more = holders.length > named.length ? [`${holders.length - named.length} more`] : [];
  return named.length === 0 ? 'in use' : `in use by ${[...named, ...more].join(', ')}`;
}

/** Whether it is marked dirty by nobody that works on it: a writer of this window marks its image as long as it has it open. */
export function isLeftDirty({ dirty, usage }: ImageSummary): boolean {
  return dirty && usage.own !== 'writing';
}

/** What this window does with an image; null when it only looks at it. */
export function describeOwnUse({ own }: UsageState): string | null {
  return own === undefined ? null : own === 'writing' ? 'being written by this window' : 'in use by this window';
}

/** How it stands with a server that cannot be reached; null for one that can. */
export function describeServer(state: 'retrying' | 'offline' | undefined): string | null {
  return state === undefined ? null : state === 'retrying' ? 'reconnecting' : 'offline';
}

/** Why the gate did not let a file open, to come after a colon. */
export function describeRefusal(reason: RefusalReason): string {
  switch (reason) {
    case 'untrustedWorkspace':
      return 'the workspace is not trusted';
    case 'outsideWorkspace':
      return 'outside the workspace';
    case 'network':
      return 'a network address';
    case 'protocol':
      return 'named through a protocol';
    case 'notFollowed':
      return 'not followed';
  }
}

/** `2026-01-31 12:00:05`, in the local time as qemu-img prints it. */
export function formatDate(dateMs: number): string {
  const date = new Date(dateMs);
  if (Number.isNaN(date.getTime())) {
    return 'no date';
  }
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `1 overlay`, `3 overlays`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** How full a cache image is. @param used and `quota` bytes */
export function describeFill(used: number, quota: number): string {
  return `${formatBytes(used)} of ${formatBytes(quota)} (${Math.floor((used / quota) * 100)} %)`;
}
