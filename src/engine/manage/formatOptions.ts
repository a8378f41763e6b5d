import type { ImageFormat } from '../../protocol/chain';
import { EngineError, invalidRequest } from '../errors';
import { parseSize } from './sizes';

/* The options that formats take when images are made and amended (`-o` of qemu-img), by QEMU's names. */

export interface OptionDeclaration {
  readonly name: string;
  /** How its value reads. */
  readonly type: 'string' | 'size' | 'boolean' | 'number';
  /** For `-o help`. */
  readonly meaning: string;
  /** What a new image gets without it, and what then is told. */
  readonly usual?: string;
  /** QEMU has none of it. */
  readonly own?: boolean;
}

/** Options by name, as they were given. */
export type FormatOptions = Readonly<Record<string, string>>;

type Value = string | number | boolean;

const BACKING = [
  { name: 'backing_file', type: 'string', meaning: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', meaning: 'Image format of the base image' },
] as const satisfies readonly OptionDeclaration[];

const SIZE = { name: 'size', type: 'size', meaning: 'Virtual disk size' } as const satisfies OptionDeclaration;
const COMPAT = { name: 'compat', type: 'string', meaning: 'Compatibility level (v2 [0.10] or v3 [1.1])' } as const;
const DATA_FILE = [
  { name: 'data_file', type: 'string', meaning: 'File name of an external data file' },
  { name: 'data_file_raw', type: 'boolean', meaning: 'The external data file must stay valid as a raw image' },
] as const satisfies readonly OptionDeclaration[];
const LAZY = { name: 'lazy_refcounts', type: 'boolean', meaning: 'Postpone refcount updates' } as const;
const REFCOUNT_BITS = { name: 'refcount_bits', type: 'number', meaning: 'Width of a reference count entry in bits' } as const;
const ITER_TIME = { name: 'encrypt.iter-time', type: 'number', meaning: 'Time to spend in PBKDF in milliseconds' } as const;

/** In the order in which qemu-img tells them of a new image. */
const CREATE: Readonly<Partial<Record<ImageFormat, readonly OptionDeclaration[]>>> = {
  qcow2: [
    { name: 'encryption', type: 'boolean', meaning: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)" },
    { name: 'encrypt.format', type: 'string', meaning: "Encrypt the image, format choices: 'aes', 'luks'" },
    { name: 'encrypt.key-secret', type: 'string', meaning: 'ID of secret providing qcow AES key or LUKS passphrase' },
    { name: 'encrypt.cipher-alg', type: 'string', meaning: 'Name of encryption cipher algorithm' },
    { name: 'encrypt.cipher-mode', type: 'string', meaning: 'Name of encryption cipher mode' },
    { name: 'encrypt.ivgen-alg', type: 'string', meaning: 'Name of IV generator algorithm' },
    { name: 'encrypt.ivgen-hash-alg', type: 'string', meaning: 'Name of IV generator hash algorithm' },
    { name: 'encrypt.hash-alg', type: 'string', meaning: 'Name of encryption hash algorithm' },
    ITER_TIME,
    { name: 'cluster_size', type: 'size', meaning: 'qcow2 cluster size', usual: '65536' },
    { name: 'extended_l2', type: 'boolean', meaning: 'Extended L2 tables', usual: 'off' },
    { name: 'preallocation', type: 'string', meaning: 'Preallocation mode (allowed values: off, metadata, falloc, full)' },
    { name: 'compression_type', type: 'string', meaning: 'Compression method used for image cluster compression', usual: 'zlib' },
    SIZE,
    COMPAT,
    ...BACKING,
    ...DATA_FILE,
    { ...LAZY, usual: 'off' },
    { ...REFCOUNT_BITS, usual: '16' },
    { name: 'cache_img_quota', type: 'size', meaning: 'Bytes to which a cache image may grow', own: true },
  ],
  qed: [
    SIZE,
    ...BACKING,
    { name: 'cluster_size', type: 'size', meaning: 'Cluster size (in bytes)', usual: '65536' },
    { name: 'table_size', type: 'size', meaning: 'L1/L2 table size (in clusters)' },
  ],
  raw: [SIZE],
};

/** What the file itself can be told, whatever lies in it. */
const FILE: readonly OptionDeclaration[] = [
  { name: 'preallocation', type: 'string', meaning: 'Preallocation mode (allowed values: off, falloc, full)' },
  { name: 'nocow', type: 'boolean', meaning: 'Turn off copy-on-write (valid only on btrfs)' },
  { name: 'extent_size_hint', type: 'size', meaning: 'Extent size hint for the image file, 0 to disable' },
];

const AMEND_QCOW2: readonly OptionDeclaration[] = [
  { name: 'encrypt.state', type: 'string', meaning: 'Select new state of affected keyslots (active/inactive)' },
  { name: 'encrypt.keyslot', type: 'number', meaning: 'Select a single keyslot to modify explicitly' },
  { name: 'encrypt.old-secret', type: 'string', meaning: 'Select all keyslots that match this password' },
  { name: 'encrypt.new-secret', type: 'string', meaning: 'New secret to set in the matching keyslots. Empty string to erase' },
  ITER_TIME,
  SIZE,
  COMPAT,
  ...BACKING,
  ...DATA_FILE,
  LAZY,
  REFCOUNT_BITS,
];

/**
 * What an image of the format can be made with; null for a format that is not made here.
 * @param withFile also what its file can be told
 */
export function createOptions(format: ImageFormat, withFile: boolean): readonly OptionDeclaration[] | null {
  const own = CREATE[format];
  return own ? [...own, ...(withFile ? FILE.filter(({ name }) => !own.some((other) => other.name === name)) : [])] : null;
}

/** What of an image can be amended; null for a format of which nothing can. */
export function amendOptions(format: ImageFormat): readonly OptionDeclaration[] | null {
  return format === 'qcow2' ? AMEND_QCOW2 : null;
}

/** Options with their values read. */
export class OptionValues {
  private readonly values: ReadonlyMap<string, Value>;

  /**
   * @throws EngineError `request.invalid` in QEMU's words: an option that there is none of, a value that is none
   */
  constructor(declarations: readonly OptionDeclaration[], given: FormatOptions) {
    const values = new Map<string, Value>();
    for (const [name, text] of Object.entries(given)) {
      const declared = declarations.find((candidate) => candidate.name === name);
      if (!declared) {
        throw invalidRequest(`Invalid parameter '${name}'`);
      }
      values.set(name, read(declared, text));
    }
    this.values = values;
  }

  string(name: string): string | undefined {
    const value = this.values.get(name);
    return typeof value === 'string' ? value : undefined;
  }

  number(name: string): number | undefined {
    const value = this.values.get(name);
    return typeof value === 'number' ? value : undefined;
  }

  boolean(name: string): boolean | undefined {
    const value = this.values.get(name);
    return typeof value === 'boolean' ? value : undefined;
  }

  /** All values as QEMU tells them, those that are usual for it among them: `cluster_size=65536 extended_l2=off`. */
  describe(declarations: readonly OptionDeclaration[]): string {
    return declarations
      .flatMap((declared) => {
        const value = this.values.get(declared.name) ?? declared.usual;
        return value === undefined ? [] : [`${declared.name}=${textOf(value)}`];
      })
      .join(' ');
  }
}

function textOf(value: Value): string {
  if (typeof value === 'string') {
    return value.replaceAll(',', ',,');
  }
  return typeof value === 'number' ? BigInt(value).toString() : value ? 'on' : 'off';
}

function read({ name, type }: OptionDeclaration, text: string): Value {
  switch (type) {
    case 'string':
      return text;
    case 'boolean':
      if (text !== 'on' && text !== 'off' && text !== 'yes' && text !== 'no' && !/^(true|false|y|n)$/.test(text)) {
        throw invalidRequest(`Parameter '${name}' expects 'on' or 'off'`);
      }
      return /^(on|yes|true|y)$/.test(text);
    case 'number': {
      if (!/^\s*(\d+|0x[0-9a-f]+)$/i.test(text) || !Number.isSafeInteger(Number(text))) {
        throw invalidRequest(`Parameter '${name}' expects a number`);
      }
      return Number(text);
    }
    case 'size':
      return readSize(name, text);
  }
}

/** @throws EngineError `request.invalid` in QEMU's words */
export function readSize(name: string, text: string): number {
  const bytes = parseSize(text);
  if (bytes === null || bytes >= 2n ** 64n) {
    throw new EngineError('request.invalid', `Parameter '${name}' expects a non-negative number below 2^64`, {
      remedy: 'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.',
    });
  }
  return Number(bytes);
}
