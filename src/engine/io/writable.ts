import * as fs from 'node:fs';

/** Whether this process could write to the file; nothing is opened. */
export function isWritable(path: string): boolean {
  try {
    fs.accessSync(path, fs.constants.W_OK);
    return true;
  } catch {
    // The question's other answer.
    return false;
  }
}
