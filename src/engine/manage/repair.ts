import type { CheckOptions, CheckReport } from '../../protocol/check';
import { openChain } from '../chain/openChain';
import { FileSource } from '../io/file';
import { FileStorage } from '../io/fileStorage';
import { acquireLocks } from '../io/imageLocks';
import { unsupportedRequest } from '../errors';
import { checkImage } from '../check/check';
import { clearUnknownFeatures, markSound, repairQcow2 } from '../check/qcow2Repair';
import { repairQed } from '../check/qedRepair';
import { readQedMetadata } from '../formats/qed/metadata';
import type { ManageContext, ManagedFile } from './managedImage';

/** What a repair found and left. */
export interface RepairResult {
  readonly before: CheckReport;
  /** Null when there was nothing to repair, or nothing that could be. */
  readonly after: CheckReport | null;
}

/**
 * Checks an image, repairs what was found and checks it again.
 * @param mode `leaks`: only what wastes space; `all`: refcounts that are too low too
 * @throws EngineError `image.corrupt` for what cannot be repaired, `file.locked`, `file.io`, `request.unsupported`, `cancelled`
 */
export async function repairImage(
  { filename, format }: ManagedFile,
  mode: 'leaks' | 'all',
  check: CheckOptions,
  context: ManageContext,
): Promise<RepairResult> {
  const { gate, currentFolder, signal } = context;
  const chain = await openChain(filename, { gate, currentFolder, format, signal, locks: null });
  const files: FileStorage[] = [];
  try {
    const { source, detail } = chain.layers[0]!;
    if (!(source instanceof FileSource) || detail.format === 'raw' || detail.format === 'vmdk') {
      throw unsupportedRequest('This image format does not support checks');
    }
    const storage = FileStorage.reopen(source, { writable: true });
    files.push(storage);
    acquireLocks([{ file: storage, role: 'metadata-writer' }]);
    const options = { ...check, ...context, dataFile: detail.format === 'qcow2' ? detail.dataFile : null, chainLoop: null };
    const run = () => checkImage(storage, detail.format, options);
    const before = await run();
    const { corruptions, leaks, checkErrors } = before.counts;
    if (before.failure === null && detail.format === 'qcow2') {
      await clearUnknownFeatures(storage);
    }
    if (before.failure !== null || checkErrors > 0 || corruptions + leaks === 0) {
      if (before.failure === null && checkErrors === 0 && detail.format === 'qcow2') {
        await markSound(storage);
      }
      return { before, after: null };
    }
    let flags = 0;
    if (detail.format === 'qed') {
      await repairQed(storage, readQedMetadata(storage), context);
    } else {
      flags = await repairQcow2(storage, mode, context);
    }
    storage.refresh();
    const after = await run();
    if (detail.format === 'qcow2' && after.failure === null && after.counts.corruptions + after.counts.checkErrors === 0) {
      await markSound(storage);
    }
    const fixed = {
      // As QEMU counts: a flag that is right once the refcount is had nothing wrong with it.
      corruptionsFixed: Math.max(0, withoutFlags(before) - withoutFlags(after)) + flags,
      leaksFixed: Math.max(0, leaks - after.counts.leaks),
    };
    return { before, after: { ...after, counts: { ...after.counts, ...fixed } } };
  } finally {
    chain.close();
    files.forEach((file) => file.close());
  }
}

function withoutFlags({ counts, kinds }: CheckReport): number {
  const flags = kinds.find(({ kind, category }) => kind === 'copiedFlag' && category === 'corruption')?.count ?? 0;
  return counts.corruptions - flags;
}
