import type { ImageFormat } from '../../protocol/chain';
import { EngineError } from '../errors';
import { readQcow2Metadata } from '../formats/qcow2/metadata';
import { readQedMetadata } from '../formats/qed/metadata';
import type { ByteSource } from '../io/source';
import { checkQcow2, type CheckResult, type Qcow2CheckOptions } from './qcow2Check';
import { checkQed } from './qedCheck';

/**
 * Checks an image of a known format. Only reads.
 * @throws EngineError `format.unsupported` for formats without checks, `format.invalid` where QEMU refuses to open the image, `cancelled`
 */
export async function checkImage(source: ByteSource, format: ImageFormat, options: Qcow2CheckOptions): Promise<CheckResult> {
  switch (format) {
    case 'qcow2':
      return checkQcow2(readQcow2Metadata(source), options);
    case 'qed':
      return checkQed(readQedMetadata(source), options);
    case 'raw':
    case 'vmdk':
      throw new EngineError('format.unsupported', 'This image format does not support checks', { file: source.name });
  }
}
