import type { Decisions } from './policy';

/** Where the workspace's state is kept; VS Code's Memento fits. */
export interface StateStore {
  get(key: string): unknown;
  update(key: string, value: unknown): Thenable<void>;
}

/** The person lets one image open one file that it names. */
export interface Grant {
  readonly kind: 'grant';
  readonly image: string;
  /** Absolute path with symbolic links resolved, or a server's address. */
  readonly target: string;
}

/** The person says which file to open in place of the one that an image names; the image itself stays as it is. */
export interface Replacement {
  readonly kind: 'replacement';
  readonly image: string;
  readonly recordedName: string;
  readonly target: string;
}

export type Decision = Grant | Replacement;

const KEY = 'chainscope.decisions';

/** Remembers the person's decisions for the workspace. */
export class DecisionStore implements Decisions {
  private readonly state: StateStore;

  constructor(state: StateStore) {
    this.state = state;
  }

  /** In the order they were made. */
  get all(): readonly Decision[] {
    const stored = this.state.get(KEY);
    return Array.isArray(stored) ? stored.filter(isDecision) : [];
  }

  isGranted(image: string, target: string): boolean {
    return this.all.some((decision) => decision.kind === 'grant' && decision.image === image && decision.target === target);
  }

  replacementFor(image: string, recordedName: string): string | null {
    const found = this.all.find(
      (decision) => decision.kind === 'replacement' && decision.image === image && decision.recordedName === recordedName,
    );
    return found?.target ?? null;
  }

  async add(decision: Decision): Promise<void> {
    await this.state.update(KEY, [...this.all.filter((other) => !concernsSame(other, decision)), decision]);
  }

  async remove(decisions: readonly Decision[]): Promise<void> {
    await this.state.update(
      KEY,
      this.all.filter((other) => !decisions.some((decision) => concernsSame(other, decision) && other.target === decision.target)),
    );
  }
}

/** Whether one decision takes the other's place. */
function concernsSame(a: Decision, b: Decision): boolean {
  if (a.image !== b.image) {
    return false;
  }
  return a.kind === 'grant' ? b.kind === 'grant' && a.target === b.target : b.kind === 'replacement' && a.recordedName === b.recordedName;
}

function isDecision(value: unknown): value is Decision {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const { kind, image, target, recordedName } = value as Record<string, unknown>;
  const named = typeof image === 'string' && typeof target === 'string';
  return named && (kind === 'grant' || (kind === 'replacement' && typeof recordedName === 'string'));
}
