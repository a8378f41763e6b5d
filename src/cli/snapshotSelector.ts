import type { SnapshotSelector } from '../engine/manage/copy/openInput';
import { CommandError } from './errors';
import { splitWords } from './keyValues';

/** `-l`: an ID or name, or `snapshot.id=` and `snapshot.name=`. @throws CommandError */
export function readSnapshotSelector(text: string | null): SnapshotSelector | null {
  if (text?.startsWith('snapshot.') !== true) {
    return text === null ? null : { idOrName: text };
  }
  let id: string | null = null;
  let name: string | null = null;
  for (const word of splitWords(text)) {
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    if (key === 'snapshot.id') {
      id = word.slice(equals + 1);
    } else if (key === 'snapshot.name') {
      name = word.slice(equals + 1);
    } else {
      throw new CommandError(`Invalid parameter '${key}'`, 1, null);
    }
  }
  return { id, name };
}
