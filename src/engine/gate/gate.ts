import type { RefusalReason } from '../../protocol/chain';

/** A file (or address) that an image names: nothing is opened because of a name before the gate was asked. */
export interface NamedFile {
  /** Absolute path of the image that holds the name. */
  readonly image: string;
  readonly role: 'backing' | 'data-file' | 'extent';
  /** The name as it stands in the image. */
  readonly recordedName: string;
  /** Absolute path with symbolic links resolved as far as they exist; null when the name is no plain local file name. */
  readonly path: string | null;
  /** The prefix of a protocol name (`json`, `nbd`, `http`, ...); null for a plain file name. `file:` counts as plain. */
  readonly protocol: string | null;
  /** The address, where the name leads to a server that can be read; null otherwise. */
  readonly address: string | null;
}

/** `replacement` is the absolute path of a file that the person named to be opened in the named one's place. */
export type GateDecision =
  { readonly allowed: true; readonly replacement?: string | undefined } | { readonly allowed: false; readonly reason: RefusalReason };

/** The one policy for opening what an image names. The shell's asks the workspace's trust and the person's grants; the command line's follows `--follow`. */
export interface OpeningGate {
  decide(named: NamedFile): GateDecision | Promise<GateDecision>;
}
