import * as path from 'node:path';

import type { CacheStatus, CopyOnReadStatus, ExportAddress, ExportInfo, UnreachableImage } from '../../protocol/exports';
import { counted, describeFill } from '../chains/wording';
import { formatBytes, formatBytesExactly } from '../text/bytes';
import { escapeMarkdown } from '../text/markdown';
import { plainText } from '../text/plain';

/** Characters of a name in a row; the whole one is in the tooltip. */
const MAX_NAME = 32;
/** The longest path of a Unix socket that every system takes, in bytes. */
const MAX_SOCKET_PATH = 103;

export interface ExportRow {
  readonly label: string;
  readonly description: string;
  /** Markdown; nothing out of a name stands in it unescaped. */
  readonly tooltip: string;
  readonly icon: string;
}

export function exportRow(info: ExportInfo): ExportRow {
  const { path: file, clients, writable, bytesRead, bytesWritten } = info;
  return {
    // What goes on stands behind the name, and shall not be pushed out of sight by it.
    label: plainText(path.basename(file), MAX_NAME),
    description: [
      // What is the matter comes first: the end of a row is the first to be cut off.
      ...info.unreachable.map(({ state }) => describeConnection(state)),
      counted(clients, 'client'),
      writable ? 'writable' : 'read-only',
      ...(info.tls ? ['TLS'] : []),
      `${formatBytes(bytesRead)} read`,
      ...(writable ? [`${formatBytes(bytesWritten)} written`] : []),
      ...(info.copyOnRead?.on === true ? [describeCopyOnRead(info.copyOnRead)] : []),
      ...info.caches.map(describeCache),
      describeAddress(info.address),
    ].join(' · '),
    tooltip: tooltipOf(info),
    icon: info.unreachable.length > 0 ? 'debug-disconnect' : clients > 0 ? 'vm-running' : 'broadcast',
  };
}

/** What menus ask for: words with spaces around them. */
export function exportContext({ copyOnRead }: ExportInfo): string {
  return ` export ${copyOnRead === null ? '' : copyOnRead.on ? 'copiesOnRead ' : 'mayCopyOnRead '}`;
}

function describeConnection(state: UnreachableImage['state']): string {
  return state === 'retrying' ? 'reconnecting to its backing file' : 'backing file offline';
}

function describeCopyOnRead({ hits, misses, problem }: CopyOnReadStatus): string {
  const read = hits + misses;
  return [problem === null ? 'copy-on-read' : 'copy-on-read fails', ...(read === 0 ? [] : [`${percent(hits, read)} hits`])].join(', ');
}

function copyOnReadFacts({ on, hits, misses, problem }: CopyOnReadStatus): readonly (readonly [string, string])[] {
  return [
    ['Copy-on-read', on ? 'on' : 'off'],
    ...(problem === null ? [] : [['Copy-on-read problem', problem] as const]),
    ...(on || hits + misses > 0
      ? [['Copy-on-read hits', formatBytesExactly(hits)] as const, ['Copy-on-read misses', formatBytesExactly(misses)] as const]
      : []),
  ];
}

/** Of a cache image: what it has spared its base, and how full it is. */
function describeCache({ state, quota, used, hits, misses }: CacheStatus): string {
  const read = hits + misses;
  const words = {
    warming: `cache ${percent(used, quota)} full`,
    full: 'cache full',
    reading: 'cache not warmed',
    failed: 'cache failed',
  } as const;
  return [words[state], ...(read === 0 ? [] : [`${percent(hits, read)} hits`, `${formatBytes(hits)} saved`])].join(', ');
}

function cacheFacts({ filename, state, quota, used, hits, misses, copied, problem }: CacheStatus): readonly (readonly [string, string])[] {
  return [
    ['Cache image', filename],
    [
      'Cache',
      { warming: 'takes in what is read', full: 'has reached its quota', reading: 'is read only', failed: 'takes in nothing more' }[state],
    ],
    ...(problem === null ? [] : [['Cache problem', problem] as const]),
    ['Cache used', describeFill(used, quota)],
    ['Cache hits', `${formatBytesExactly(hits)}, saved from its base`],
    ['Cache misses', `${formatBytesExactly(misses)}, read from its base`],
    ['Copied into it', formatBytesExactly(copied)],
  ];
}

function percent(part: number, whole: number): string {
  return `${Math.floor((part / whole) * 100)} %`;
}

export function describeAddress(address: ExportAddress): string {
  return address.kind === 'unix' ? plainText(path.basename(address.path)) : `${plainText(address.host)}:${address.port}`;
}

function tooltipOf({
  path: file,
  format,
  uri,
  name,
  size,
  clients,
  bytesRead,
  bytesWritten,
  writable,
  tls,
  unreachable,
  caches,
  copyOnRead,
}: ExportInfo): string {
  const rows: readonly (readonly [string, string])[] = [
    ['Image', file],
    ['Format', format],
    ['URI', uri],
    ...(name === '' ? [] : [['Export name', name] as const]),
    ['Size', formatBytesExactly(size)],
    ['Access', writable ? 'writable' : 'read-only'],
    ...unreachable.map((image) => [image.state === 'retrying' ? 'Reconnecting to' : 'Offline', image.name] as const),
    ...(copyOnRead === null ? [] : copyOnReadFacts(copyOnRead)),
    ...caches.flatMap(cacheFacts),
    ['Encryption', tls ? 'TLS' : 'none'],
    ['Clients', String(clients)],
    ['Read', formatBytesExactly(bytesRead)],
    ...(writable ? [['Written', formatBytesExactly(bytesWritten)] as const] : []),
  ];
  return ['| | |', '|---|---|', ...rows.map(([title, value]) => `| ${title} | ${escapeMarkdown(value)} |`)].join('\n');
}

/** Why a Unix socket cannot have this path; null when it can. */
export function socketPathProblem(text: string): string | null {
  if (!path.isAbsolute(text)) {
    return 'Give the whole path, from the root on.';
  }
  const bytes = new TextEncoder().encode(text).length;
  return bytes > MAX_SOCKET_PATH ? `The path has ${bytes} bytes; a socket's has ${MAX_SOCKET_PATH} at most.` : null;
}

/** Why this is no TCP port; null when it is one. 0 lets the system choose. */
export function portProblem(text: string): string | null {
  return /^\d{1,5}$/.test(text.trim()) && Number(text) <= 65_535 ? null : 'A port is a number up to 65535; 0 lets the system choose one.';
}

/** Whether only this machine can reach an address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
