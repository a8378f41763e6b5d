import { EngineError, invalidRequest } from '../../../errors';
import type { Storage } from '../../../io/storage';
import type { PaceOptions } from '../../../pace';
import { AUTOCLEAR, COMPATIBLE, EXTENSION } from '../structures';
import { downgrade, upgrade } from './compatibility';
import { withExtension, withFields } from './header';
import { amendKeySlots, type KeySlotChange } from './keySlots';
import { QuietImage } from './quietImage';
import { changeRefcountBits } from './refcountWidth';

/** qemu-img amend's options of the format, by their names; what is left out stays. The size is changed by the node (`resize`). */
export interface Qcow2AmendOptions {
  readonly compat?: string | undefined;
  readonly lazy_refcounts?: boolean | undefined;
  readonly refcount_bits?: number | undefined;
  readonly backing_file?: string | undefined;
  readonly backing_fmt?: string | undefined;
  readonly data_file?: string | undefined;
  readonly data_file_raw?: boolean | undefined;
  /** `encrypt.*` of an image with LUKS. */
  readonly encrypt?: KeySlotChange | undefined;
}

export interface AmendResources extends PaceOptions {
  /** Opens the image as it is; needed to give it another passphrase. */
  readonly passphrase?: Uint8Array | undefined;
}

const VERSIONS: Readonly<Record<string, 2 | 3>> = { '0.10': 2, v2: 2, '1.1': 3, v3: 3 };

/**
 * Changes what an image is, in place; nothing that the guest reads changes.
 * @param storage an image that nobody else uses, all of whose metadata is in the file
 * @throws EngineError `request.invalid` in QEMU's words, before the step that it is about; `data.passphrase`, `file.io`, `file.full`
 */
export async function amendQcow2(storage: Storage, options: Qcow2AmendOptions, resources: AmendResources = {}): Promise<void> {
  let image = QuietImage.open(storage, { settled: true });
  const { metadata } = image;
  const version = options.compat === undefined ? metadata.version : VERSIONS[options.compat];
  if (version === undefined) {
    throw invalidRequest(`Unknown compatibility level ${options.compat ?? ''}`);
  }
  if (options.encrypt && metadata.cryptMethod === 0) {
    throw invalidRequest("Can't amend encryption options - encryption not present");
  }
  const { backing_file: backingFile, backing_fmt: backingFormat } = options;
  if (backingFile !== undefined || backingFormat !== undefined) {
    // Only to say again what is so.
    if (backingFile !== metadata.backingFile?.name || backingFormat !== (metadata.backingFormat ?? '')) {
      throw new EngineError('request.invalid', 'Cannot amend the backing file', {
        file: storage.name,
        remedy: "You can use 'qemu-img rebase' instead.",
      });
    }
  }
  if (options.data_file_raw === true && !metadata.rawDataFile) {
    throw invalidRequest('data-file-raw cannot be set on existing images');
  }
  if (options.data_file !== undefined && !metadata.hasDataFile) {
    throw invalidRequest('data-file can only be set for images that use an external data file');
  }
  if (options.lazy_refcounts === true && !metadata.lazyRefcounts && version < 3) {
    throw invalidRequest('Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)');
  }
  const refcountBits = options.refcount_bits ?? metadata.refcountBits;
  if (refcountBits !== 16 && version < 3) {
    throw invalidRequest(
      refcountBits === metadata.refcountBits
        ? 'compat=0.10 requires refcount_bits=16'
        : 'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)',
    );
  }
  if (version > metadata.version) {
    await upgrade(image);
  }
  if (options.encrypt) {
    await amendKeySlots(image, options.encrypt, resources.passphrase ?? null, resources.signal);
  }
  image = await changeRefcountBits(image, refcountBits, resources);
  await amendHeader(image, options);
  if (version < metadata.version) {
    await downgrade(image, resources);
  }
}

async function amendHeader(image: QuietImage, options: Qcow2AmendOptions): Promise<void> {
  const { lazy_refcounts: lazy, data_file: dataFile, data_file_raw: raw } = options;
  const encoder = new TextEncoder();
  if (lazy === undefined && dataFile === undefined && raw === undefined) {
    return;
  }
  await image.changeHeader((contents) => {
    const { compatible_features: compatible, autoclear_features: autoclear, version } = contents.fields;
    let next = contents;
    if (lazy !== undefined && version >= 3n) {
      const others = compatible & ~COMPATIBLE.lazyRefcounts;
      next = withFields(next, { compatible_features: lazy ? others | COMPATIBLE.lazyRefcounts : others });
    }
    if (raw === false) {
      next = withFields(next, { autoclear_features: autoclear & ~AUTOCLEAR.rawExternalData });
    }
    if (dataFile !== undefined) {
      // Without a name the file has to be given whenever the image is opened.
      next = withExtension(next, EXTENSION.dataFile, dataFile === '' ? null : encoder.encode(dataFile));
    }
    return next;
  });
}
