/** An engine that dies this often in a minute dies of something that is asked of it again and again. */
export const MAX_DEATHS = 3;
const WITHIN_MS = 60_000;

/** Counts how often the engine died lately, so that what may have killed it is not tried for ever. */
export class Deaths {
  private times: readonly number[] = [];

  /** Notes one more; true when there are too many to go on by oneself. */
  add(nowMs = Date.now()): boolean {
    this.times = [...this.times.filter((time) => nowMs - time < WITHIN_MS), nowMs];
    return this.times.length >= MAX_DEATHS;
  }
}
