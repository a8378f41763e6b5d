import { corruptImage } from '../errors';
import { markCopied, readL1 } from '../formats/qcow2/manage/mappingTree';
import { QuietImage } from '../formats/qcow2/manage/quietImage';
import { listSnapshots } from '../formats/qcow2/manage/snapshots';
import { withFields } from '../formats/qcow2/manage/header';
import { readQcow2Metadata, type Qcow2Metadata } from '../formats/qcow2/metadata';
import { FEATURE } from '../formats/qcow2/structures';
import { HeaderFields } from '../formats/qcow2/write/headerFields';
import { clearUnknownAutoclear } from '../formats/qcow2/write/opening';
import { countReferences, rebuildRefcounts } from '../formats/qcow2/write/rebuild';
import { run } from '../formats/qcow2/write/steps';
import type { Storage } from '../io/storage';
import { readPadded } from '../io/source';
import type { PaceOptions } from '../pace';

/**
 * Makes refcounts what they should be by what refers to each cluster, and COPIED flags after them. What tables lead to is not changed, and
 * nothing is changed where the refcounts share their place with something else.
 * @param mode `leaks`: refcounts are made less and never more
 * @returns how many COPIED flags of the active tables were wrong once the refcounts were right
 * @throws EngineError `image.corrupt` for what cannot be repaired, `file.io`, `file.full`, `cancelled`
 */
export async function repairQcow2(storage: Storage, mode: 'leaks' | 'all', options: PaceOptions = {}): Promise<number> {
  const metadata = readQcow2Metadata(storage);
  requireRefcountsApart(metadata);
  await run(rebuildRefcounts(storage, metadata, mode));
  const image = QuietImage.open(storage, { settled: true, repairing: true });
  const { l1TableOffset, l1Size } = image.metadata;
  const flags = await markCopied(image, readL1(image, l1TableOffset, l1Size), true, options);
  for (const snapshot of listSnapshots(image)) {
    await markCopied(image, readL1(image, snapshot.l1TableOffset, snapshot.l1Size), false, options);
  }
  await storage.flush();
  return flags;
}

/** What every writer clears, QEMU's check too, whatever it then finds. @throws EngineError `file.io` */
export async function clearUnknownFeatures(storage: Storage): Promise<void> {
  const metadata = readQcow2Metadata(storage);
  await run(clearUnknownAutoclear(storage, metadata, new HeaderFields(storage, metadata)));
}

/** Takes the marks away that say that the image is wrong: it was checked, and is not. @throws EngineError `file.io` */
export async function markSound(storage: Storage): Promise<void> {
  const image = QuietImage.open(storage, { settled: true, repairing: true });
  if (image.metadata.corrupt || image.metadata.dirty) {
    await image.changeHeader((contents) =>
      withFields(contents, { incompatible_features: contents.fields.incompatible_features & ~(FEATURE.corrupt | FEATURE.dirty) }),
    );
  }
}

/** Refcounts are written where the refcount table says; nothing else may lie there. */
function requireRefcountsApart(metadata: Qcow2Metadata): void {
  const { source, clusterSize, refcountTableOffset, refcountTableClusters } = metadata;
  const own = new Map<number, number>([[0, 0]]);
  for (let index = 0; index < refcountTableClusters; index++) {
    own.set(refcountTableOffset / clusterSize + index, 0);
  }
  const table = new DataView(readPadded(source, refcountTableOffset, refcountTableClusters * clusterSize).buffer);
  for (let at = 0; at < table.byteLength; at += 8) {
    const hostOffset = Number(table.getBigUint64(at) & ~0x1ffn);
    if (hostOffset !== 0) {
      if (hostOffset % clusterSize !== 0) {
        throw corruptImage(
          source.name,
          'refcount table entry',
          refcountTableOffset + at,
          'The refcount block is not aligned to a cluster.',
        );
      }
      own.set(hostOffset / clusterSize, 0);
    }
  }
  countReferences(metadata, (hostOffset, length) => {
    const end = Math.min(Math.ceil((hostOffset + length) / clusterSize), Math.ceil(source.size / clusterSize));
    for (let cluster = Math.floor(hostOffset / clusterSize); cluster < end; cluster++) {
      const counted = own.get(cluster);
      if (counted !== undefined) {
        own.set(cluster, counted + 1);
      }
    }
  });
  for (const [cluster, counted] of own) {
    if (counted > 1) {
      const what = cluster === 0 ? 'header' : 'refcount structure';
      throw corruptImage(source.name, what, cluster * clusterSize, 'Something else lies in the same place; this cannot be repaired.');
    }
  }
}
