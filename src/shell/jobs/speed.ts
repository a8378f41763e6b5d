import type { TextField } from '../commands/manage/wizard';
import { formatBytes } from '../text/bytes';
import { parseBytes, qemuSize } from '../text/sizes';

/** A field for a limit in bytes per second; empty is none. */
export function speedField(current: number): TextField {
  return {
    prompt: 'Bytes per second at most; empty is no limit',
    placeholder: '50M',
    value: current === 0 ? '' : qemuSize(current),
    check: (text) => {
      const speed = parseSpeed(text);
      if (speed === null) {
        return { message: 'That is no speed. Write bytes per second with a unit: 512K, 50M, 1G.', isError: true };
      }
      return { message: speed === 0 ? 'No limit' : `At most ${formatBytes(speed)}/s`, isError: false };
    },
  };
}

/** `50M`, `50 MiB/s`; 0 for no limit, null for what is no speed. */
export function parseSpeed(text: string): number | null {
  const plain = text.trim().replace(/\/s$/i, '');
  return plain === '' ? 0 : parseBytes(plain);
}
