import type { ChainLink, LinkState, RefusalReason, UsageState } from '../../../protocol/chain';
import type { Notice } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer, OpenedChain } from '../../block/layer';
import { mapExtents, vmdkProblems } from '../../formats/vmdk/extents';
import type { Problem } from '../../formats/problem';
import { hex, visible } from '../wording';

/** Links of a chain that are told one by one. */
const MOST_LINK_NOTICES = 20;

/** What a person should know before anything else: who uses the image, what keeps it from opening, where the chain is broken. */
export function notices(chain: OpenedChain): Notice[] {
  const active = chain.layers[0];
  const [first, ...others] = chain.links;
  return [
    ...(first?.image ? usageNotices(first.image.usage) : []),
    ...(active ? imageNotices(active) : []),
    ...shortened(others.flatMap((link) => linkNotices(link))),
  ];
}

/** A disk in thousands of extents may miss them all. */
function shortened(list: readonly Notice[]): readonly Notice[] {
  const left = list.length - MOST_LINK_NOTICES;
  return left <= 1
    ? list
    : [...list.slice(0, MOST_LINK_NOTICES), { severity: 'error', message: `So it is with ${left} more files of the chain.`, place: null }];
}

function usageNotices({ inUse, writing, holders }: UsageState): Notice[] {
  if (!inUse) {
    return [];
  }
  const names = holders.map(({ pid, command }) => `${visible(command)} (process ${pid})`).join(', ');
  const who = names === '' ? 'another process' : names;
  return [
    {
      severity: 'warning',
      message: writing
        ? `In use by ${who}, which may write to it. What is shown is read again as the file changes and may be inconsistent for moments.`
        : `In use by ${who} for reading.`,
      place: null,
    },
  ];
}

/** The severity order of a layer's own notices: what refuses to open, then damage, then what cannot be shown. */
function imageNotices(layer: Layer): Notice[] {
  const { detail } = layer;
  switch (detail.format) {
    case 'raw':
      return [];
    case 'vmdk':
      // Extents that are not open have notices of their own.
      return refusal(vmdkProblems(detail.metadata, mapExtents(detail.metadata, detail.extents)));
    case 'qed': {
      const { metadata } = detail;
      return [
        ...refusal(metadata.problems),
        ...(metadata.needCheck
          ? [
              note(
                'warning',
                'The image was not closed cleanly (need check); check it before it is used.',
                metadata.header.field('features').offset,
              ),
            ]
          : []),
      ];
    }
    case 'qcow2':
      return qcow2Notices(detail);
  }
}

function qcow2Notices({ metadata, dataFile }: Extract<Layer['detail'], { format: 'qcow2' }>): Notice[] {
  const { header } = metadata;
  const list = refusal(metadata.problems);
  const at = (name: Parameters<typeof header.field>[0]) => header.field(name).offset;
  if (metadata.corrupt) {
    list.push(note('error', 'The image is marked corrupt; QEMU opens it read-only until it is repaired.', at('incompatible_features')));
  }
  if (metadata.dirty) {
    list.push(
      note(
        'warning',
        'The image was not closed cleanly (dirty); its refcounts may be wrong until it is checked.',
        at('incompatible_features'),
      ),
    );
  }
  if (metadata.backingFile && metadata.backingFormat === null) {
    list.push(
      note('warning', 'The backing file format is not recorded; whoever opens the image has to guess it.', at('backing_file_offset')),
    );
  }
  if (metadata.cryptMethod !== 0) {
    list.push(note('info', 'The image is encrypted: its metadata is shown, its data is not.', at('crypt_method')));
  }
  if (metadata.hasDataFile && dataFile === null) {
    list.push(note('warning', 'The external data file is not open; guest data cannot be shown.', at('incompatible_features')));
  }
  return list;
}

/** One notice for all that keeps drivers from opening the image; the fields say the rest. */
function refusal(problems: readonly Problem[]): Notice[] {
  const errors = problems.filter(({ severity }) => severity === 'error');
  const [first] = errors;
  if (!first) {
    return [];
  }
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  const message = `No driver opens this image: ${first.structure} at offset ${hex(safe(first.hostOffset))}: ${first.message}${more}`;
  return [note('error', message, first.hostOffset)];
}

const REFUSALS: Readonly<Record<RefusalReason, string>> = {
  untrustedWorkspace: 'files that an image names are not opened in a workspace that is not trusted',
  outsideWorkspace: 'it lies outside the workspace and nobody has allowed it',
  network: 'it is reached over the network and nobody has allowed it',
  protocol: 'its name uses a protocol that cannot be read',
  notFollowed: 'names in images are not followed',
};

const ROLES: Readonly<Record<ChainLink['role'], string>> = {
  active: 'image',
  backing: 'backing file',
  'data-file': 'external data file',
  extent: 'extent',
};

function linkNotices({ recordedName, path, role, state }: ChainLink): Notice[] {
  const message = linkMessage(state, `The ${ROLES[role]} '${visible(recordedName)}'`);
  const place: Place | null = path === null || state.kind !== 'open' ? null : { kind: 'file', path };
  return message === null ? [] : [{ severity: state.kind === 'refused' ? 'warning' : 'error', message, place }];
}

function linkMessage(state: LinkState, subject: string): string | null {
  switch (state.kind) {
    case 'open':
      return null;
    case 'missing':
      return `${subject} does not exist; what only it holds cannot be shown.`;
    case 'refused':
      return `${subject} was not opened: ${REFUSALS[state.reason]}.`;
    case 'loop':
      return `${subject} is already part of the chain: the chain loops, and no program can read it.`;
    case 'unreadable':
      return `${subject} cannot be read: ${visible(state.message)}`;
  }
}

function note(severity: Notice['severity'], message: string, hostOffset: number): Notice {
  return { severity, message: visible(message), place: { kind: 'host', hostOffset: safe(hostOffset) } };
}

function safe(hostOffset: number): number {
  return Number.isSafeInteger(hostOffset) ? hostOffset : 0;
}
