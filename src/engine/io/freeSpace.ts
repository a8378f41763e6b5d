import * as fs from 'node:fs';

/** Bytes that an ordinary program may still write in a folder's file system; null where the system does not tell. */
export function freeSpace(folder: string): number | null {
  try {
    const { bavail, bsize } = fs.statfsSync(folder);
    return bavail * bsize;
  } catch {
    // It is told for a person to look at; the writes themselves say what is wrong.
    return null;
  }
}
