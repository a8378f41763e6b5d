import { FileSource } from '../engine/io/file';
import { usageOf } from '../engine/io/locks';
import type { ByteSource } from '../engine/io/source';
import type { UsageState } from '../protocol/chain';

/** Milliseconds between two looks at the system's locks; taking or giving up a lock changes nothing that a file watch would see. */
const LOOK_MS = 2000;

/** Notices when processes, this one too, begin or end to use a file. */
export class UsageWatch {
  private readonly timer: NodeJS.Timeout | null;

  /** @param known how the file was used when it was opened; `onChange` comes once */
  constructor(source: ByteSource, known: UsageState | null, onChange: () => void, lookMs = LOOK_MS) {
    if (!(source instanceof FileSource) || !known?.known) {
      this.timer = null;
      return;
    }
    const timer = setInterval(() => {
      if (!sameUsage(usageOf(source), known)) {
        clearInterval(timer);
        onChange();
      }
    }, lookMs);
    timer.unref();
    this.timer = timer;
  }

  close(): void {
    if (this.timer) {
      clearInterval(this.timer);
    }
  }
}

function sameUsage(one: UsageState, other: UsageState): boolean {
  const pids = ({ holders }: UsageState) => holders.map(({ pid }) => pid).join();
  return one.inUse === other.inUse && one.writing === other.writing && one.own === other.own && pids(one) === pids(other);
}
