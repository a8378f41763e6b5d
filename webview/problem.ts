/* What went wrong, as the page shows it. */

export interface Problem {
  readonly message: string;
  readonly remedy: string | null;
  /** The engine's stable code, or `page` when the fault lies on this side. */
  readonly code: string;
  readonly hostOffset: number | null;
}

/** A request that the engine or the shell answered with an error. */
export class HostError extends Error {
  override readonly name = 'HostError';
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

export function isAbort(error: unknown): boolean {
  return (
    (error instanceof DOMException && error.name === 'AbortError') || (error instanceof HostError && error.problem.code === 'cancelled')
  );
}

export function problemOf(error: unknown): Problem {
  if (error instanceof HostError) {
    return error.problem;
  }
  return { message: error instanceof Error ? error.message : String(error), remedy: null, code: 'page', hostOffset: null };
}
