import type { FormatPart } from './imageInfo';

/** What an image says of its backing file; nothing when the name is empty. */
export function backingPart(metadata: {
  readonly backingFile: { readonly name: string } | null;
  readonly backingFormat: string | null;
}): Pick<FormatPart, 'backingFilename' | 'backingFilenameFormat'> {
  const backingFilename = untilNul(metadata.backingFile?.name ?? '');
  const backingFilenameFormat = untilNul(metadata.backingFormat ?? '');
  if (backingFilename === '') {
    return {};
  }
  return { backingFilename, ...(backingFilenameFormat === '' ? {} : { backingFilenameFormat }) };
}

/** To QEMU a name ends at its first NUL. */
export function untilNul(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
