import * as path from 'node:path';

import type { ChainLink, ImageSummary, RefusalReason } from '../../protocol/chain';
import { formatBytes, formatBytesExactly } from '../text/bytes';
import { escapeMarkdown } from '../text/markdown';
import type { ForestNode, ImageNode } from './forest';
import { counted, describeFill, describeOwnUse, describeRefusal, describeUsage, formatDate, isLeftDirty } from './wording';

/** More problems than this are counted only; the editor lists them all. */
const MAX_PROBLEMS = 5;

/** A row's hover as Markdown. Whatever comes from a file or its name is escaped; there are no links. */
export function tooltipOf(node: ForestNode): string {
  switch (node.kind) {
    case 'image':
      return imageTooltip(node);
    case 'failed':
      return paragraphs(heading(path.basename(node.path)), escapeMarkdown(node.path), escapeMarkdown(node.message));
    case 'snapshots':
      return `Internal snapshots of ${escapeMarkdown(path.basename(node.image))}`;
    case 'bitmaps':
      return `Persistent bitmaps of ${escapeMarkdown(path.basename(node.image))}`;
    case 'overlays':
      return `Images that have ${escapeMarkdown(path.basename(node.image))} as their backing file`;
    case 'overlay':
      return paragraphs(heading(path.basename(node.overlay)), escapeMarkdown(node.overlay), 'Select it to see it in its own chain.');
    case 'snapshot':
      return paragraphs(
        heading(node.snapshot.name === '' ? `snapshot ${node.snapshot.id}` : node.snapshot.name),
        table([
          ['ID', node.snapshot.id],
          ['Taken', formatDate(node.snapshot.dateMs)],
          ['Disk size', formatBytesExactly(node.snapshot.diskSize)],
          ['VM state', node.snapshot.vmStateSize > 0 ? formatBytesExactly(node.snapshot.vmStateSize) : 'none'],
        ]),
      );
    case 'bitmap':
      return paragraphs(
        heading(node.bitmap.name),
        table([
          ['Granularity', formatBytesExactly(node.bitmap.granularity)],
          ['Recording', node.bitmap.auto ? 'whenever the image is written' : 'no'],
          ['State', node.bitmap.inUse ? 'in use: it was not saved and is not consistent' : 'consistent'],
        ]),
      );
  }
}

function imageTooltip(node: ImageNode): string {
  const { link, overlays } = node;
  const name = node.path === null ? link.recordedName : path.basename(node.path);
  return paragraphs(
    heading(name),
    ...(node.path === null ? [] : [escapeMarkdown(node.path)]),
    ...(link.state.kind === 'open' ? [] : [escapeMarkdown(explainState(link))]),
    table([
      ...(link.role === 'active' ? [] : [['Recorded as', link.recordedName] as const]),
      ...(link.image === null ? [] : facts(link.image)),
      ...(overlays.length === 0 ? [] : [['Overlays', overlays.map((overlay) => path.basename(overlay)).join(', ')] as const]),
    ]),
    ...(link.image === null ? [] : problems(link.image)),
  );
}

/** One sentence or two: what is the matter with the link, and what to do. */
function explainState({ state, role, path: file }: ChainLink): string {
  const what = role === 'data-file' ? 'data file' : role === 'extent' ? 'extent' : 'backing file';
  switch (state.kind) {
    case 'open':
      return '';
    case 'missing':
      return `The ${what} does not exist. "Locate…" says where it is now, without writing to the image.`;
    case 'loop':
      return 'The chain leads back to this image. No driver opens such a chain.';
    case 'unreadable':
      return state.server === undefined ? state.message : `${state.message} "Try Again" asks it at once.`;
    case 'refused':
      return `The ${what} was not opened: ${describeRefusal(state.reason)}.${remedy(state.reason, file !== null)}`;
  }
}

function remedy(reason: RefusalReason, isFile: boolean): string {
  switch (reason) {
    case 'untrustedWorkspace':
      return ' Trust the workspace to have the files opened that its images name.';
    case 'outsideWorkspace':
      return ' "Allow Access…" opens it, now and later.';
    case 'network':
      return ' "Allow Access…" contacts the address, now and later.';
    case 'protocol':
      return isFile ? ' "Allow Access…" opens the file that it describes.' : ' "Locate…" names a local file to open in its place.';
    case 'notFollowed':
      return '';
  }
}

function facts(image: ImageSummary): (readonly [string, string])[] {
  const { usage } = image;
  const ownUse = describeOwnUse(usage);
  return [
    ['Format', image.format],
    ['Virtual size', formatBytesExactly(image.virtualSize)],
    ['File size', formatBytesExactly(image.fileSize)],
    ['Allocated', formatBytesExactly(image.allocatedBytes)],
    ...(image.clusterSize === null ? [] : [['Cluster size', formatBytes(image.clusterSize)] as const]),
    ...(image.backingName === null ? [] : [['Backing file', image.backingName] as const]),
    ...(image.backingName === null ? [] : [['Backing format', image.backingFormat ?? 'not recorded'] as const]),
    ...(image.cacheQuota === null
      ? []
      : [
          ['Cache quota', formatBytesExactly(image.cacheQuota)] as const,
          ['Cache used', describeFill(image.fileSize, image.cacheQuota)] as const,
        ]),
    ...(image.dataFileName === null ? [] : [['Data file', image.dataFileName] as const]),
    ...(image.snapshots.length === 0 ? [] : [['Snapshots', String(image.snapshots.length)] as const]),
    ...(image.bitmaps.length === 0 ? [] : [['Bitmaps', String(image.bitmaps.length)] as const]),
    ...states(image).map((state) => ['State', state] as const),
    ...(ownUse === null ? [] : [['In use', ownUse] as const]),
    ...(usage.inUse ? [['In use', `${describeUsage(usage)}${usage.writing ? ', writing' : ''}`] as const] : []),
  ];
}

function states(image: ImageSummary): string[] {
  return [
    ...(image.corrupt ? ['marked corrupt'] : []),
    ...(isLeftDirty(image) ? ['dirty: it was not closed cleanly'] : []),
    ...(image.encrypted ? ['encrypted'] : []),
    ...(image.readOnly ? ['read-only'] : []),
  ];
}

function problems(image: ImageSummary): string[] {
  const shown = image.problems.slice(0, MAX_PROBLEMS).map(({ message }) => `- ${escapeMarkdown(message)}`);
  const rest = image.problems.length - shown.length;
  return shown.length === 0 ? [] : [[...shown, ...(rest > 0 ? [`- ${counted(rest, 'more problem')}`] : [])].join('\n')];
}

function heading(text: string): string {
  return `**${escapeMarkdown(text === '' ? '(no name)' : text)}**`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  return rows.length === 0
    ? ''
    : ['| | |', '|:--|:--|', ...rows.map(([name, value]) => `| ${name} | ${escapeMarkdown(value)} |`)].join('\n');
}

function paragraphs(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('\n\n');
}
