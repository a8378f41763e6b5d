/** Something that a peer does too: both run in turn in one run, and what counts is the ratio of the medians. */
export interface BenchCase {
  /** What is done, on what: "check, 1 TiB, metadata preallocated". */
  readonly name: string;
  /** Ours / peer's that the project aims at; null when none is set. */
  readonly target: number | null;
  /** The commands compared, as a person would type them, for the report. */
  readonly commands?: { readonly ours: string; readonly peer: string };
  /** Makes the input in `folder`, which is empty or holds what an earlier case of the same run made. */
  prepare(folder: string): Promise<void>;
  /** Runs once; milliseconds of wall time. */
  ours(): Promise<number>;
  peer(): Promise<number>;
}

/** A figure that no peer has. */
export interface FigureCase {
  readonly name: string;
  readonly unit: 'ms' | 'MiB' | 'bytes' | 'frames/s' | 'MiB/s' | 'ratio';
  /** Aim in `unit`; lower is better but for what is a rate. */
  readonly target: number | null;
  prepare(folder: string): Promise<void>;
  /** Measures once. */
  measure(): Promise<number>;
  /** Releases what `prepare` holds (a browser, a worker). */
  finish?(): Promise<void>;
}
