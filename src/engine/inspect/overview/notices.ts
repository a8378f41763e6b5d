import type { ChainLink, LinkState, RefusalReason, UsageState } from '../../../protocol/chain';
import type { Notice } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';
import type { Layer, OpenedChain } from '../../chain/layer';
import { encryptedLayers, type Ciphers } from '../../chain/unlock';
import { CRYPT_METHOD } from '../../formats/qcow2/crypto/open';
import { mapExtents, vmdkProblems } from '../../formats/vmdk/extents';
import type { Problem } from '../../formats/problem';
import { hex, visible } from '../wording';

/** Links of a chain that are told one by one. */
const MOST_LINK_NOTICES = 20;

/** What a person should know before anything else: who uses the image, what keeps it from opening, where the chain is broken. */
export function notices(chain: OpenedChain, ciphers: Ciphers): Notice[] {
  const active = chain.layers[0];
  const [first, ...others] = chain.links;
  return [
    ...(first?.image ? usageNotices(first.image.usage) : []),
    ...(active ? imageNotices(active, isWrittenHere(active)) : []),
    ...encryptionNotices(chain, ciphers),
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

function usageNotices({ inUse, writing, holders, own }: UsageState): Notice[] {
  if (!inUse) {
    return own === 'writing' ? [WRITTEN_HERE] : [];
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

/** A writer marks its image dirty as long as it has it open; that is nothing to worry about while the writer is this window. */
function isWrittenHere({ link }: Layer): boolean {
  return link.image?.usage.own === 'writing';
}

const WRITTEN_HERE: Notice = {
  severity: 'info',
  message: 'This window is writing to the image: it is exported, or a job works on it. What is shown is read again as the file changes.',
  place: null,
};

/** The severity order of a layer's own notices: what refuses to open, then damage, then what cannot be shown. */
function imageNotices(layer: Layer, writtenHere: boolean): Notice[] {
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
        ...(metadata.needCheck && !writtenHere
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
      return qcow2Notices(detail, writtenHere);
  }
}

function qcow2Notices({ metadata, dataFile }: Extract<Layer['detail'], { format: 'qcow2' }>, writtenHere: boolean): Notice[] {
  const { header } = metadata;
  const list = refusal(metadata.problems);
  const at = (name: Parameters<typeof header.field>[0]) => header.field(name).offset;
  if (metadata.corrupt) {
    list.push(note('error', 'The image is marked corrupt; QEMU opens it read-only until it is repaired.', at('incompatible_features')));
  }
  if (metadata.dirty && !writtenHere) {
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
  if (metadata.hasDataFile && dataFile === null) {
    list.push(note('warning', 'The external data file is not open; guest data cannot be shown.', at('incompatible_features')));
  }
  return list;
}

/** Whether the data of a chain that is encrypted, wholly or in part, is shown. */
function encryptionNotices(chain: OpenedChain, ciphers: Ciphers): Notice[] {
  const encrypted = encryptedLayers(chain);
  const locked = encrypted.filter((layer) => !ciphers.has(layer));
  const [first] = locked;
  if (first) {
    const message =
      first.depth === 0
        ? 'The image is encrypted: its metadata is shown, its data is not.'
        : `The backing file '${visible(first.link.recordedName)}' is encrypted: its data is not shown.`;
    return [{ severity: 'info', message, place: cryptMethodOf(first), action: 'unlock' }];
  }
  const legacy = encrypted.find(({ detail }) => detail.format === 'qcow2' && detail.metadata.cryptMethod === CRYPT_METHOD.aes);
  if (legacy) {
    const message = 'Encrypted with the old AES, in which nothing tells a wrong passphrase: if what is shown makes no sense, it was one.';
    return [{ severity: 'info', message, place: cryptMethodOf(legacy), action: 'forgetPassphrases' }];
  }
  return encrypted.length === 0
    ? []
    : [{ severity: 'info', message: 'Encrypted, and unlocked in this window.', place: null, action: 'forgetPassphrases' }];
}

/** Where a link can lead to: in the active layer's file. */
function cryptMethodOf({ depth, detail }: Layer): Place | null {
  return depth === 0 && detail.format === 'qcow2'
    ? { kind: 'host', hostOffset: detail.metadata.header.field('crypt_method').offset }
    : null;
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
