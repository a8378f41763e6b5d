import { Decoded } from '../../layout/codec';
import type { Qcow2Metadata } from './metadata';
import { CACHE_QUOTA_EXTENSION, EXTENSION } from './structures';

/**
 * To how many bytes the file of a cache image may grow (docs/cache-image.md); null for an image that is none. An extension that is cut
 * short, or appears twice, makes none.
 */
export function cacheQuotaOf({ extensions }: Pick<Qcow2Metadata, 'extensions'>): number | null {
  const found = extensions.filter(({ type }) => type === EXTENSION.cacheQuota);
  const [extension] = found;
  if (!extension || found.length > 1 || extension.length !== CACHE_QUOTA_EXTENSION.length) {
    return null;
  }
  const quota = new Decoded(CACHE_QUOTA_EXTENSION, extension.data).number('quota');
  return Number.isSafeInteger(quota) ? quota : null;
}
