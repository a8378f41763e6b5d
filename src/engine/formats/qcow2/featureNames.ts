import { Decoded } from '../../layout/codec';
import type { Qcow2Extension } from './extensions';
import { EXTENSION, FEATURE, FEATURE_NAME_ENTRY } from './structures';

/** Feature fields of the header by the type that a feature name table gives them. */
export const FEATURE_FIELDS = ['incompatible_features', 'compatible_features', 'autoclear_features'] as const;

/** Names that can be told as they are; others are told by their bits. */
const PLAIN = /^[\x20-\x7e]+$/;

/** An entry of a feature name table. */
export interface FeatureName {
  readonly decoded: Decoded<(typeof FEATURE_NAME_ENTRY.fields)[number]['name']>;
  readonly name: string;
  /** Of the entry in the extension's data, in bytes. */
  readonly offset: number;
}

export function featureNameEntries({ data }: Qcow2Extension): FeatureName[] {
  const entries: FeatureName[] = [];
  for (let offset = 0; offset + FEATURE_NAME_ENTRY.length <= data.length; offset += FEATURE_NAME_ENTRY.length) {
    const decoded = new Decoded(FEATURE_NAME_ENTRY, data.subarray(offset, offset + FEATURE_NAME_ENTRY.length));
    const bytes = decoded.raw('name');
    const end = bytes.indexOf(0);
    entries.push({ decoded, name: new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)), offset });
  }
  return entries;
}

/** Names that an image's own feature name table gives to bits: `incompatible_features.5`. */
export function featureNames(extensions: readonly Qcow2Extension[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const extension of extensions.filter(({ type }) => type === EXTENSION.featureNames)) {
    for (const { decoded, name } of featureNameEntries(extension)) {
      const field = FEATURE_FIELDS[decoded.number('type')];
      if (field && name !== '') {
        names.set(`${field}.${decoded.number('bit')}`, name);
      }
    }
  }
  return names;
}

/** What keeps an image from being opened, where bits are set that nothing here knows; by the names that the image gives them. */
export function unknownFeatures(incompatibleFeatures: bigint, extensions: readonly Qcow2Extension[]): string | null {
  const unknown = incompatibleFeatures & ~FEATURE.known;
  if (unknown === 0n) {
    return null;
  }
  const names = featureNames(extensions);
  const told = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((unknown >> BigInt(bit)) & 1n) {
      const name = names.get(`incompatible_features.${bit}`) ?? '';
      told.push(PLAIN.test(name) ? `${name} (bit ${bit})` : `bit ${bit}`);
    }
  }
  return `Incompatible features are set that are unknown here: ${told.join(', ')}.`;
}
