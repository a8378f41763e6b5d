/** Something in an image that contradicts its specification, met while looking at it. Looking goes on. */
export interface Problem {
  /** `error`: a driver refuses to open the image because of it. `warning`: it opens, but something is off. */
  readonly severity: 'error' | 'warning';
  /** The structure, in the specification's words. */
  readonly structure: string;
  /** The declared field, where one is to blame. */
  readonly field?: string | undefined;
  /** Byte offset in the file of the structure or field. */
  readonly hostOffset: number;
  /** One sentence. */
  readonly message: string;
}
