import { EngineError, invalidRequest, readOnlyImage } from '../../../errors';
import { requireOpenableQcow2 } from '../../../info/opening';
import { loading } from '../../../io/loading';
import type { Storage } from '../../../io/storage';
import { readQcow2Metadata, type Qcow2Metadata } from '../metadata';
import { AUTOCLEAR, FEATURE } from '../structures';
import { HeaderFields } from './headerFields';
import type { Qcow2NodeOptions } from './nodeOptions';
import { rebuildRefcounts } from './rebuild';
import { load, run, type Steps } from './steps';

const KNOWN_AUTOCLEAR = AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData;

/**
 * Reads what an image says of itself, and makes one that is to be written ready for it.
 * @throws EngineError as `Qcow2Node.open`
 */
export async function openMetadata(options: Qcow2NodeOptions): Promise<Qcow2Metadata> {
  const { storage, readOnly } = options;
  if (!readOnly && !storage.writable) {
    throw readOnlyImage(options.filename ?? storage.name);
  }
  let metadata = await loading(() => readQcow2Metadata(storage));
  await loading(() => requireOpenableQcow2(metadata, 'read'));
  if (!Number.isSafeInteger(metadata.size)) {
    throw invalidRequest(`${storage.name}: The disk is larger than 2^53 bytes.`);
  }
  if (metadata.cryptMethod !== 0 && !options.cipher) {
    throw new EngineError('data.encrypted', `${storage.name}: The image is encrypted.`, { file: storage.name });
  }
  if (metadata.hasDataFile && !options.dataFile) {
    throw new EngineError('file.notFound', `${storage.name}: The external data file is not open.`, { file: storage.name });
  }
  if (!readOnly) {
    if (metadata.corrupt) {
      throw new EngineError('image.corrupt', `${storage.name}: The image is marked as corrupt and cannot be opened for writing.`, {
        file: storage.name,
        structure: 'qcow2 header',
        remedy: 'Check and repair the image.',
      });
    }
    await run(openForWriting(storage, metadata));
    metadata = await loading(() => readQcow2Metadata(storage));
  }
  return metadata;
}

/**
 * What has to be done to an image before it is written: refcounts that lag behind are counted anew, and features that a writer must clear
 * are cleared.
 * @throws EngineError `image.corrupt`, `file.io`, `file.full`
 */
function* openForWriting(storage: Storage, metadata: Qcow2Metadata): Steps<void> {
  if (metadata.version < 3) {
    return;
  }
  const header = yield* load(() => new HeaderFields(storage, metadata));
  if (metadata.dirty) {
    yield* rebuildRefcounts(storage, metadata);
    yield* header.update({ incompatible_features: metadata.incompatibleFeatures & ~FEATURE.dirty });
    yield storage.flush();
  }
  yield* clearUnknownAutoclear(storage, metadata, header);
}

/** Clears features that a writer must clear who does not know them, before it changes anything else. @throws EngineError `file.io` */
export function* clearUnknownAutoclear(storage: Storage, { autoclearFeatures }: Qcow2Metadata, header: HeaderFields): Steps<void> {
  if ((autoclearFeatures & ~KNOWN_AUTOCLEAR) !== 0n) {
    yield* header.update({ autoclear_features: autoclearFeatures & KNOWN_AUTOCLEAR });
    yield storage.flush();
  }
}
