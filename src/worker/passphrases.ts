import type { Layer } from '../engine/chain/layer';

/** Whether a layer is what errors call by this name. */
export function isNamed({ path, filename, source }: Pick<Layer, 'path' | 'filename' | 'source'>, file: string): boolean {
  return source.name === file || filename === file || path === file;
}

/** The passphrases that the person has given for encrypted images. They are in this thread's memory and nowhere else. */
export class Passphrases {
  private readonly known = new Map<string, Uint8Array>();

  /** @param file as errors name it */
  give(file: string, passphrase: string | null): void {
    this.known.get(file)?.fill(0);
    if (passphrase === null) {
      this.known.delete(file);
    } else {
      this.known.set(file, new TextEncoder().encode(passphrase));
    }
  }

  /** That of a file by the path that it was given for: of an image that is still to be made. */
  readonly ofFile = (path: string): Uint8Array | null => this.known.get(path) ?? null;

  /** What the engine asks when it opens an encrypted layer. */
  readonly of = ({ path, filename, source }: Pick<Layer, 'path' | 'filename' | 'source'>): Uint8Array | null =>
    this.known.get(source.name) ?? this.known.get(filename) ?? this.known.get(path) ?? null;
}
