import type { ChainLink, RefusalReason } from '../../protocol/chain';
import { EngineError } from '../errors';
import { requireOpenable } from '../formats/qcow2/metadata';
import { requireOpenableQed } from '../formats/qed/metadata';
import { mapExtents, requireReadableVmdk, requireSameParent } from '../formats/vmdk/extents';
import type { Layer, OpenedChain } from './layer';

const REFUSALS: Readonly<Record<RefusalReason, { readonly why: string; readonly remedy: string }>> = {
  untrustedWorkspace: { why: 'the workspace is not trusted', remedy: 'Trust the workspace to open what its images name.' },
  outsideWorkspace: { why: 'it lies outside the workspace', remedy: 'Grant access to the file.' },
  network: { why: 'it lies on the network', remedy: 'Grant access to the address.' },
  protocol: { why: 'its name is of a protocol that cannot be read', remedy: 'Copy its contents to a local file.' },
  notFollowed: { why: 'names in images are not to be followed', remedy: 'Run the command with --follow=all.' },
};

/**
 * Refuses a chain whose guest bytes cannot be told because a part of it is not open.
 * @throws EngineError saying which link, and why
 */
export function requireComplete(chain: OpenedChain): void {
  for (const link of chain.links) {
    if (link.state.kind !== 'open') {
      throw linkError(link);
    }
  }
}

/** The error for a link that is not open. */
export function linkError({ state, role, recordedName, path }: ChainLink): EngineError {
  const what = role === 'data-file' ? 'data file' : role === 'extent' ? 'extent' : 'backing file';
  const file = path ?? recordedName;
  switch (state.kind) {
    case 'open':
      throw new RangeError('the link is open');
    case 'missing':
      return new EngineError('file.notFound', `Could not open ${what}: Could not open '${file}': No such file or directory`, { file });
    case 'loop':
      return new EngineError('chain.loop', `Backing file '${file}' is part of its own backing chain.`, {
        file,
        remedy: 'Give one of its images another backing file.',
      });
    case 'refused': {
      const { why, remedy } = REFUSALS[state.reason];
      return new EngineError('chain.refused', `The ${what} '${recordedName}' was not opened: ${why}.`, { file: recordedName, remedy });
    }
    case 'unreadable':
      return new EngineError('file.notAccessible', `Could not open ${what}: ${state.message}`, { file });
  }
}

/**
 * Refuses an image whose guest bytes no driver would give out.
 * @param decrypted whether its cipher is there, if it needs one
 * @throws EngineError `format.invalid`, `format.unsupported`, `data.encrypted`
 */
export function requireReadable({ detail, filename }: Layer, decrypted = false): void {
  switch (detail.format) {
    case 'raw':
      return;
    case 'qed':
      requireOpenableQed(detail.metadata);
      return;
    case 'vmdk':
      requireReadableVmdk(detail.metadata, mapExtents(detail.metadata, detail.extents));
      return;
    case 'qcow2':
      requireOpenable(detail.metadata);
      if (detail.metadata.hasDataFile && !detail.dataFile) {
        throw new EngineError('format.invalid', `${filename}: 'data-file' is required for this image; its header names none.`, {
          file: filename,
        });
      }
      if (detail.metadata.cryptMethod !== 0 && !decrypted) {
        throw new EngineError('data.encrypted', `${filename}: The guest data is encrypted and cannot be shown.`, { file: filename });
      }
  }
}

/**
 * Refuses images whose parents were changed since: only VMDK knows.
 * @throws EngineError `format.invalid`
 */
export function requireSameParents(layers: readonly Layer[]): void {
  layers.forEach(({ detail }, index) => {
    const parent = layers[index + 1]?.detail;
    if (detail.format === 'vmdk' && parent) {
      requireSameParent(detail.metadata, parent.format === 'vmdk' ? parent.metadata : null);
    }
  });
}
