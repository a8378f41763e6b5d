import * as path from 'node:path';

import type { ChainLink, ImageSummary, LinkState } from '../../protocol/chain';
import { formatBytes } from '../text/bytes';
import { plainText } from '../text/plain';
import type { BitmapNode, FailedNode, ForestNode, GroupNode, ImageNode, OverlayNode, SnapshotNode } from './forest';
import { tooltipOf } from './tooltip';
import { counted, describeOwnUse, describeRefusal, describeServer, describeUsage, formatDate, isLeftDirty } from './wording';

/** An icon of the product's icon font and the theme's colour for it. */
export interface RowIcon {
  readonly id: string;
  readonly color: string | null;
}

/** A row of the tree, ready to be drawn; all text is plain. */
export interface Row {
  readonly label: string;
  readonly description: string;
  readonly icon: RowIcon;
  /** Markdown; nothing out of a file or a name stands in it unescaped. */
  readonly tooltip: string;
  /** Words for the `when` clauses of the menus, each surrounded by spaces. */
  readonly context: string;
}

const ERROR = 'problemsErrorIcon.foreground';
const WARNING = 'problemsWarningIcon.foreground';

export function rowOf(node: ForestNode): Row {
  switch (node.kind) {
    case 'image':
      return imageRow(node);
    case 'failed':
      return failedRow(node);
    case 'snapshots':
    case 'bitmaps':
    case 'overlays':
      return groupRow(node);
    case 'snapshot':
      return snapshotRow(node);
    case 'bitmap':
      return bitmapRow(node);
    case 'overlay':
      return overlayRow(node);
  }
}

function imageRow(node: ImageNode): Row {
  const { link } = node;
  const folder = node.folder === null ? [] : [plainText(node.folder)];
  const parts = link.image && link.state.kind === 'open' ? describeImage(node, link.image) : [describeState(link)];
  return {
    label: plainText(node.path === null ? link.recordedName : path.basename(node.path)),
    description: [...roleOf(link), ...folder, ...parts].join(' · '),
    icon: imageIcon(node),
    tooltip: tooltipOf(node),
    context: words(imageContext(node)),
  };
}

function roleOf({ role, path: file, state }: ChainLink): string[] {
  return [
    ...(role === 'data-file' ? ['data file'] : role === 'extent' ? ['extent'] : []),
    // What is open and no file of this machine lies on a server.
    ...(file === null && state.kind === 'open' ? ['connected'] : []),
  ];
}

/** What is the matter comes first: the end of a row is the first to be cut off in a narrow view. */
function describeImage({ overlays }: ImageNode, image: ImageSummary): string[] {
  return [
    ...alertsOf(image),
    image.format,
    formatBytes(image.virtualSize),
    `${formatBytes(image.allocatedBytes)} allocated`,
    ...(image.cacheQuota === null ? [] : [`cache ${formatBytes(image.fileSize)} of ${formatBytes(image.cacheQuota)}`]),
    ...(overlays.length > 0 ? [counted(overlays.length, 'overlay')] : []),
    ...(image.encrypted ? ['encrypted'] : []),
    ...(image.readOnly ? ['read-only'] : []),
    ...(image.clusterSize === null ? [] : [`${formatBytes(image.clusterSize)} clusters`]),
  ];
}

function alertsOf(image: ImageSummary): string[] {
  const errors = image.problems.filter(({ severity }) => severity === 'error').length;
  const warnings = image.problems.length - errors;
  return [
    ...(errors > 0 ? [counted(errors, 'error')] : []),
    ...(image.corrupt ? ['corrupt'] : []),
    ...(isLeftDirty(image) ? ['dirty'] : []),
    ...(warnings > 0 ? [counted(warnings, 'warning')] : []),
    ...(image.usage.inUse ? [describeUsage(image.usage)] : []),
    ...listed(describeOwnUse(image.usage)),
    ...(image.backingName !== null && image.backingFormat === null ? ['backing format not recorded'] : []),
  ];
}

function listed<T>(value: T | null): readonly T[] {
  return value === null ? [] : [value];
}

/** Why a link is not open, in a few words. */
function describeState(link: ChainLink): string {
  const { state } = link;
  switch (state.kind) {
    case 'open':
      return 'not looked at';
    case 'missing':
      return 'missing';
    case 'loop':
      return 'loop: the chain leads back here';
    case 'unreadable':
      return `${describeServer(state.server) ?? 'unreadable'}: ${plainText(state.message)}`;
    case 'refused':
      return `not opened: ${describeRefusal(state.reason)}`;
  }
}

function imageIcon({ link, isBase, namedBy }: ImageNode): RowIcon {
  const ofState = stateIcon(link.state);
  if (ofState !== null) {
    return ofState;
  }
  const { image, role } = link;
  if (image?.corrupt === true || image?.problems.some(({ severity }) => severity === 'error')) {
    return { id: 'error', color: ERROR };
  }
  if (image !== null && (isLeftDirty(image) || image.problems.length > 0)) {
    return { id: 'warning', color: WARNING };
  }
  if (image?.usage.inUse === true || image?.usage.own !== undefined) {
    return { id: 'vm-running', color: 'charts.green' };
  }
  if (image !== null && image.backingName !== null && image.backingFormat === null) {
    return { id: 'info', color: 'problemsInfoIcon.foreground' };
  }
  if (image?.encrypted === true) {
    return { id: 'key', color: null };
  }
  if (role === 'data-file' || role === 'extent') {
    return { id: 'file-binary', color: null };
  }
  if (link.path === null) {
    return { id: 'cloud', color: null };
  }
  return { id: namedBy === null ? 'layers-active' : isBase ? 'database' : 'layers', color: null };
}

function stateIcon(state: LinkState): RowIcon | null {
  switch (state.kind) {
    case 'open':
      return null;
    case 'missing':
      return { id: 'question', color: ERROR };
    case 'refused':
      return { id: 'shield', color: WARNING };
    case 'loop':
      return { id: 'sync-ignored', color: ERROR };
    case 'unreadable':
      return state.server === undefined ? { id: 'error', color: ERROR } : { id: 'debug-disconnect', color: WARNING };
  }
}

function imageContext({ link, added, namedBy, overlays }: ImageNode): string[] {
  const { state } = link;
  const grantable = state.kind === 'refused' && (state.reason === 'network' || link.path !== null);
  return [
    'image',
    state.kind,
    ...(link.path === null ? [] : ['file']),
    ...(state.kind === 'open' ? ['openable'] : []),
    ...(link.image === null ? [] : [link.image.format, ...(link.image.backingName === null ? [] : ['backed'])]),
    ...(state.kind === 'open' && (link.image?.format === 'qcow2' || link.image?.format === 'qed') ? ['checkable'] : []),
    ...(link.image?.encrypted === true && state.kind === 'open' ? ['encrypted'] : []),
    ...(grantable ? ['grantable'] : []),
    ...(state.kind === 'unreadable' && state.server !== undefined ? ['unreachable'] : []),
    ...(namedBy !== null && (state.kind === 'missing' || state.kind === 'refused' || state.kind === 'unreadable') ? ['locatable'] : []),
    ...(added ? ['added'] : []),
    ...(overlays.length > 0 ? ['overlaid'] : []),
    ...(overlays.length > 1 && state.kind === 'open' ? ['shared'] : []),
  ];
}

function failedRow(node: FailedNode): Row {
  return {
    label: plainText(path.basename(node.path)),
    description: plainText(node.message),
    icon: { id: 'error', color: ERROR },
    tooltip: tooltipOf(node),
    context: words(['image', 'failed', 'file', ...(node.added ? ['added'] : [])]),
  };
}

function groupRow(node: GroupNode): Row {
  const [label, icon] = {
    snapshots: ['Snapshots', 'device-camera'] as const,
    bitmaps: ['Bitmaps', 'table'] as const,
    overlays: ['Overlays', 'references'] as const,
  }[node.kind];
  return {
    label,
    description: String(node.children.length),
    icon: { id: icon, color: null },
    tooltip: tooltipOf(node),
    context: words([node.kind]),
  };
}

function snapshotRow(node: SnapshotNode): Row {
  const { name, id, dateMs, vmStateSize } = node.snapshot;
  return {
    label: plainText(name === '' ? `snapshot ${id}` : name),
    description: [
      `ID ${plainText(id, 40)}`,
      formatDate(dateMs),
      ...(vmStateSize > 0 ? [`${formatBytes(vmStateSize)} of VM state`] : []),
    ].join(' · '),
    icon: { id: 'device-camera', color: null },
    tooltip: tooltipOf(node),
    context: words(['snapshot']),
  };
}

function bitmapRow(node: BitmapNode): Row {
  const { name, granularity, inUse, auto } = node.bitmap;
  return {
    label: plainText(name),
    description: [`granularity ${formatBytes(granularity)}`, ...(auto ? ['auto'] : []), ...(inUse ? ['in use, not consistent'] : [])].join(
      ' · ',
    ),
    icon: inUse ? { id: 'warning', color: WARNING } : { id: 'table', color: null },
    tooltip: tooltipOf(node),
    context: words(['bitmap', auto ? 'enabled' : 'disabled']),
  };
}

function overlayRow(node: OverlayNode): Row {
  return {
    label: plainText(path.basename(node.overlay)),
    description: plainText(path.dirname(node.overlay)),
    icon: { id: 'arrow-up', color: null },
    tooltip: tooltipOf(node),
    context: words(['overlay']),
  };
}

function words(list: readonly string[]): string {
  return ` ${list.join(' ')} `;
}
