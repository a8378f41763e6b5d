import * as path from 'node:path';

import type { ImageFormat } from '../../protocol/chain';

const FORMATS: Readonly<Record<string, ImageFormat>> = { '.qcow2': 'qcow2', '.qcow': 'qcow2', '.qed': 'qed', '.vmdk': 'vmdk' };

/** Extents of a VMDK image carry its extension and are no images themselves. */
const VMDK_EXTENT = /-(flat|rdmp?|delta|[fsp]\d+)\.vmdk$/i;

/**
 * The format that a file's name promises, for files whose content does not say (a damaged header, an empty file): such a file shows in the
 * tree with what is wrong with it. `.img` and `.raw` promise nothing, since raw is what anything is.
 */
export function formatByName(file: string): ImageFormat | null {
  return VMDK_EXTENT.test(file) ? null : (FORMATS[path.extname(file).toLowerCase()] ?? null);
}
