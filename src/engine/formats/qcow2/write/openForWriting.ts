import type { Storage } from '../../../io/storage';
import type { Qcow2Metadata } from '../metadata';
import { AUTOCLEAR, FEATURE } from '../structures';
import { HeaderFields } from './headerFields';
import { rebuildRefcounts } from './rebuild';
import { load, type Steps } from './steps';

const KNOWN_AUTOCLEAR = AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData;

/**
 * What has to be done to an image before it is written: refcounts that lag behind are counted anew, and features that a writer must clear
 * are cleared.
 * @throws EngineError `image.corrupt`, `file.io`, `file.full`
 */
export function* openForWriting(storage: Storage, metadata: Qcow2Metadata): Steps<void> {
  if (metadata.version < 3) {
    return;
  }
  const header = yield* load(() => new HeaderFields(storage, metadata));
  if (metadata.dirty) {
    yield* rebuildRefcounts(storage, metadata);
    yield* header.update({ incompatible_features: metadata.incompatibleFeatures & ~FEATURE.dirty });
    yield storage.flush();
  }
  if ((metadata.autoclearFeatures & ~KNOWN_AUTOCLEAR) !== 0n) {
    yield* header.update({ autoclear_features: metadata.autoclearFeatures & KNOWN_AUTOCLEAR });
    yield storage.flush();
  }
}
