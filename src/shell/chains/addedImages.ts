import type { ImageFormat } from '../../protocol/chain';
import type { StateStore } from '../trust/decisionStore';

export interface AddedImage {
  /** Absolute path. */
  readonly path: string;
  readonly format: ImageFormat;
}

const KEY = 'chainscope.addedImages';
const FORMATS: readonly string[] = ['qcow2', 'qed', 'vmdk', 'raw'] satisfies ImageFormat[];

/** Images that the person added to the view by hand: raw ones, which no content tells, and ones that lie elsewhere. */
export class AddedImages {
  private readonly state: StateStore;

  constructor(state: StateStore) {
    this.state = state;
  }

  get all(): readonly AddedImage[] {
    const stored = this.state.get(KEY);
    return Array.isArray(stored) ? stored.filter(isAddedImage) : [];
  }

  async add(image: AddedImage): Promise<void> {
    await this.state.update(KEY, [...this.all.filter(({ path }) => path !== image.path), image]);
  }

  async remove(file: string): Promise<void> {
    await this.state.update(
      KEY,
      this.all.filter(({ path }) => path !== file),
    );
  }
}

function isAddedImage(value: unknown): value is AddedImage {
  if (typeof value !== 'object' || value === null) {
    return false;
  }
  const { path, format } = value as Record<string, unknown>;
  return typeof path === 'string' && typeof format === 'string' && FORMATS.includes(format);
}
