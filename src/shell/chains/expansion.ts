import type { StateStore } from '../trust/decisionStore';

const KEY = 'chainscope.expansion';

/** Rows remembered; the ones that were touched longest ago are forgotten. */
const MAX_ROWS = 1_000;

/** Which rows the person opened or closed, by id. VS Code itself forgets it when the window is loaded anew. */
export class Expansion {
  private readonly state: StateStore;
  private readonly rows: Map<string, boolean>;

  constructor(state: StateStore) {
    this.state = state;
    const stored = state.get(KEY);
    this.rows = new Map(Array.isArray(stored) ? stored.filter(isEntry) : []);
  }

  /** Undefined for a row that the person left as it came. */
  of(id: string): boolean | undefined {
    return this.rows.get(id);
  }

  async set(id: string, expanded: boolean): Promise<void> {
    this.rows.delete(id);
    this.rows.set(id, expanded);
    const [oldest] = this.rows.keys();
    if (this.rows.size > MAX_ROWS && oldest !== undefined) {
      this.rows.delete(oldest);
    }
    await this.state.update(KEY, [...this.rows]);
  }
}

function isEntry(value: unknown): value is [string, boolean] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && typeof value[1] === 'boolean';
}
