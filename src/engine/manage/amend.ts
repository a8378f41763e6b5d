import { EngineError, invalidRequest } from '../errors';
import { amendQcow2, type Qcow2AmendOptions } from '../formats/qcow2/manage/amend';
import type { KeySlotChange } from '../formats/qcow2/manage/keySlots';
import { Qcow2Node } from '../formats/qcow2/write/qcow2Node';
import { run } from '../formats/qcow2/write/steps';
import { amendOptions, createOptions, OptionValues, type FormatOptions, type OptionDeclaration } from './formatOptions';
import { withImage, type ManageContext, type ManagedFile } from './managedImage';

export interface AmendContext extends ManageContext {
  /** The secret of that ID; null when there is none. */
  readonly secretOf?: ((id: string) => Uint8Array | null) | undefined;
}

/**
 * Changes what an image is; nothing that the guest reads changes, but for what lies behind a smaller `size`.
 * @param force also where a passphrase is lost for good
 * @throws EngineError `request.invalid` in QEMU's words, `request.unsupported`; as `withImage`
 */
export async function amendImage(file: ManagedFile, options: FormatOptions, force: boolean, context: AmendContext): Promise<void> {
  let passphrase: Uint8Array | null = null;
  const remembering: ManageContext = {
    ...context,
    passphraseOf: (layer) => {
      const found = context.passphraseOf?.(layer) ?? null;
      passphrase = layer.depth === 0 ? found : passphrase;
      return found;
    },
  };
  const size = await withImage(file, false, remembering, async ({ node }) => {
    const format = node.image.driver;
    const declared = format === 'qcow2' ? amendOptions(format) : null;
    if (!declared) {
      throw new EngineError('request.unsupported', `Format driver '${format}' does not support option amendment`, { file: file.filename });
    }
    const values = readValues(declared, options);
    const changes: Qcow2AmendOptions = {
      compat: values.string('compat'),
      lazy_refcounts: values.boolean('lazy_refcounts'),
      refcount_bits: values.number('refcount_bits'),
      backing_file: values.string('backing_file'),
      backing_fmt: values.string('backing_fmt'),
      data_file: values.string('data_file'),
      data_file_raw: values.boolean('data_file_raw'),
      encrypt: keySlotChange(values, force, context),
    };
    await node.requests.run(0, Infinity, true, async () => {
      const { image } = node;
      if (!(image instanceof Qcow2Node)) {
        throw invalidRequest(`${file.filename} is open for reading only.`);
      }
      await run(image.settle());
      await image.hooks.beforeClose?.(image);
      try {
        await amendQcow2(image.storage, changes, { ...context, passphrase: passphrase ?? undefined });
      } finally {
        image.reload();
      }
    });
    return values.number('size');
  });
  if (size !== undefined) {
    // Opened anew: version and refcounts may be others.
    await withImage(file, false, context, async ({ node }) => {
      if (node.size !== size) {
        await node.resize(size);
      }
    });
  }
}

function readValues(declared: readonly OptionDeclaration[], options: FormatOptions): OptionValues {
  const other = Object.keys(options).find((name) => !declared.some((option) => option.name === name));
  if (other !== undefined && createOptions('qcow2', false)?.some(({ name }) => name === other)) {
    throw new EngineError('request.invalid', `Invalid parameter '${other}'`, {
      remedy: 'This option is only supported for image creation',
    });
  }
  return new OptionValues(declared, options);
}

const SLOT_OPTIONS = ['encrypt.new-secret', 'encrypt.old-secret'] as const;

function keySlotChange(values: OptionValues, force: boolean, { secretOf }: AmendContext): KeySlotChange | undefined {
  const state = values.string('encrypt.state');
  const keyslot = values.number('encrypt.keyslot');
  const iterTime = values.number('encrypt.iter-time');
  const [newId, oldId] = SLOT_OPTIONS.map((name) => values.string(name));
  if (state === undefined) {
    if (keyslot !== undefined || iterTime !== undefined || newId !== undefined || oldId !== undefined) {
      throw invalidRequest("Parameter 'state' is missing");
    }
    return undefined;
  }
  const secret = (id: string | undefined) => {
    if (id === undefined) {
      return undefined;
    }
    const found = secretOf?.(id) ?? null;
    if (!found) {
      throw invalidRequest(`No secret with id '${id}'`);
    }
    return found;
  };
  return { state, keyslot, iterTime, force, newSecret: secret(newId), oldSecret: secret(oldId) };
}
