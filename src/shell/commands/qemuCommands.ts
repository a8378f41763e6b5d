import type { ImageFormat } from '../../protocol/chain';

export interface QemuCommand {
  /** What it shows. */
  readonly title: string;
  readonly command: string;
}

export interface CommandSubject {
  /** Absolute path. */
  readonly path: string;
  readonly format: ImageFormat;
  /** Some process has it open: qemu-img then needs `-U`, which does not take the locks. */
  readonly inUse: boolean;
  readonly hasSnapshots: boolean;
}

/** The qemu-img commands that show of an image what this extension shows. */
export function qemuCommands({ path, format, inUse, hasSnapshots }: CommandSubject, platform: NodeJS.Platform): QemuCommand[] {
  // The format is named, so that qemu-img does not guess it.
  const image = `${inUse ? '-U ' : ''}-f ${format} ${quoted(path, platform)}`;
  return [
    { title: 'Information about the chain', command: `qemu-img info --backing-chain ${image}` },
    ...(format === 'raw' ? [] : [{ title: 'Check', command: `qemu-img check ${image}` }]),
    { title: 'Allocation map as JSON', command: `qemu-img map --output=json ${image}` },
    ...(hasSnapshots
      ? [{ title: 'List of snapshots', command: `qemu-img snapshot -l ${inUse ? '-U ' : ''}${quoted(path, platform)}` }]
      : []),
  ];
}

/** A path as one argument of the platform's usual shell. */
export function quoted(path: string, platform: NodeJS.Platform): string {
  if (platform === 'win32') {
    return /^[\w.:\\/-]+$/.test(path) ? path : `"${path.replaceAll('"', '""')}"`;
  }
  return /^[\w.,:@%+=/-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}
