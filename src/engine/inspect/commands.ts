import type { LayerView } from '../../protocol/place';
import type { Layer } from '../chain/layer';

/** The commands of QEMU's tools that show what an inspector shows. */

/** Bytes that a command prints at most; a whole cluster of 2 MiB helps nobody on a terminal. */
const SHOWN_BYTES = 4096;

/** How a guest range of the whole chain is looked at. Encrypted images need a secret that is not known here. */
export function guestCommands(active: Layer, view: LayerView, guestOffset: number, length: number): string[] {
  const file = shellWord(active.path);
  if (view.kind === 'snapshot') {
    return [`qemu-img snapshot -l${share(active)} ${file}`];
  }
  if (isEncrypted(active)) {
    return [`qemu-img info${share(active)} ${file}`];
  }
  const format = `-f ${active.detail.format}`;
  return [
    `qemu-img map --output=json${share(active)} ${format} --start-offset=${guestOffset} --max-length=${length} ${file}`,
    `qemu-io -r${share(active)} ${format} -c ${shellWord(`read -v ${guestOffset} ${Math.min(length, SHOWN_BYTES)}`)} ${file}`,
  ];
}

/** How bytes of a file are looked at as they are. */
export function hostCommands(layer: Layer, path: string, hostOffset: number, length: number): string[] {
  return [`qemu-io -r${share(layer)} -f raw -c ${shellWord(`read -v ${hostOffset} ${Math.min(length, SHOWN_BYTES)}`)} ${shellWord(path)}`];
}

/** A file that another process writes to is opened with `--force-share`, or not at all. */
function share(layer: Layer): string {
  return layer.link.image?.usage.inUse ? ' -U' : '';
}

function isEncrypted({ detail }: Layer): boolean {
  return detail.format === 'qcow2' && detail.metadata.cryptMethod !== 0;
}

/** One word for a POSIX shell: as it is, in single quotes, or in bash's `$'...'` where it holds control characters. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) {
    return text;
  }
  if (!/[\u0000-\u001f\u007f]/.test(text)) {
    return `'${text.replaceAll("'", String.raw`'\''`)}'`;
  }
  const escaped = text.replace(/[\u0000-\u001f\u007f'\\]/g, (character) => {
    const code = character.charCodeAt(0);
    return code > 0x1f && code < 0x7f ? `\\${character}` : `\\x${code.toString(16).padStart(2, '0')}`;
  });
  return `$'${escaped}'`;
}
