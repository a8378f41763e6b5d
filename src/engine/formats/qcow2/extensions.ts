import { Decoded } from '../../layout/codec';
import { readAvailable, type ByteSource } from '../../io/source';
import type { Problem } from '../problem';
import { EXTENSION, EXTENSION_HEADER, EXTENSION_TITLES } from './structures';

export interface Qcow2Extension {
  readonly type: number;
  /** What it is, or `unknown extension`. */
  readonly title: string;
  /** Byte offset in the file of the extension's own header. */
  readonly hostOffset: number;
  /** Its data without the padding to 8 bytes; shorter than `length` when the file ends inside. */
  readonly data: Uint8Array;
  /** As the extension says, in bytes. */
  readonly length: number;
}

/** More than this many extensions fit no sane header; a hostile one may hold thousands of empty ones. */
const MAX_EXTENSIONS = 1024;

/** Reads the header extensions between `start` and `end` (both byte offsets in the file). */
export function readExtensions(
  source: ByteSource,
  start: number,
  end: number,
  clusterSize: number,
): { extensions: Qcow2Extension[]; problems: Problem[] } {
  const extensions: Qcow2Extension[] = [];
  const problems: Problem[] = [];
  const limit = Math.min(end, clusterSize);
  let offset = start;
  while (offset + EXTENSION_HEADER.length <= limit && extensions.length < MAX_EXTENSIONS) {
    const head = new Decoded(EXTENSION_HEADER, readAvailable(source, offset, EXTENSION_HEADER.length));
    const type = head.number('type');
    const length = head.number('length');
    if (!head.has('length')) {
      break;
    }
    const dataOffset = offset + EXTENSION_HEADER.length;
    const isEnd = type === EXTENSION.end;
    // QEMU looks at the length of the end marker too, which has no data.
    if (length > limit - dataOffset) {
      problems.push({
        severity: 'error',
        structure: 'header extension',
        field: 'length',
        hostOffset: offset,
        message: `The ${title(type)} of ${length} bytes reaches past the end of the extension area at ${limit}.`,
      });
      extensions.push({
        type,
        title: title(type),
        hostOffset: offset,
        data: isEnd ? new Uint8Array(0) : readAvailable(source, dataOffset, limit - dataOffset),
        length,
      });
      break;
    }
    if (isEnd) {
      extensions.push({ type, title: title(type), hostOffset: offset, data: new Uint8Array(0), length });
      break;
    }
    extensions.push({ type, title: title(type), hostOffset: offset, data: readAvailable(source, dataOffset, length), length });
    offset = dataOffset + Math.ceil(length / 8) * 8;
  }
  return { extensions, problems };
}

function title(type: number): string {
  return EXTENSION_TITLES[type] ?? 'unknown extension';
}
