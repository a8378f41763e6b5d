import * as fs from 'node:fs';
import * as path from 'node:path';

export interface WatchOptions {
  /** Milliseconds between two looks at the files where the system tells nothing. */
  readonly pollMs: number;
  /** Milliseconds that changes are gathered before they are told. */
  readonly settleMs: number;
  /** Milliseconds between two tellings at least: a guest at work writes all the time. */
  readonly restMs: number;
}

export const DEFAULT_WATCH: WatchOptions = { pollMs: 2000, settleMs: 200, restMs: 1000 };

/**
 * Watches files that may come, go, be replaced and be written to at any moment. The system's own events make it prompt; where there are
 * none (network file systems, containers) looking now and then finds the same. Many changes are told once.
 */
export class FileWatch {
  private readonly options: WatchOptions;
  private readonly onChange: () => void;
  private readonly timer: NodeJS.Timeout;
  /** Each file's state when it was last looked at. */
  private readonly seen = new Map<string, string>();
  private readonly folders = new Map<string, fs.FSWatcher>();
  private telling: NodeJS.Timeout | null = null;
  private lastTold = -Infinity;
  private looking = false;
  private again = false;
  private closed = false;

  /** @param files absolute; a file that does not exist is watched for */
  constructor(files: readonly string[], onChange: () => void, options: WatchOptions = DEFAULT_WATCH) {
    this.onChange = onChange;
    this.options = options;
    this.timer = setInterval(() => this.look(), options.pollMs);
    this.timer.unref();
    this.watch(files);
  }

  /** Watches these files from now on and no others. What is known of those that were watched before stays known. */
  watch(files: readonly string[]): void {
    const wanted = new Set(files);
    for (const file of this.seen.keys()) {
      if (!wanted.has(file)) {
        this.seen.delete(file);
      }
    }
    for (const file of wanted) {
      if (!this.seen.has(file)) {
        this.seen.set(file, stateNow(file));
      }
    }
    const folders = new Set([...wanted].map((file) => path.dirname(file)));
    for (const [folder, watcher] of this.folders) {
      if (!folders.has(folder)) {
        watcher.close();
        this.folders.delete(folder);
      }
    }
    for (const folder of folders) {
      if (!this.folders.has(folder)) {
        this.watchFolder(folder);
      }
    }
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
    if (this.telling) {
      clearTimeout(this.telling);
    }
    for (const watcher of this.folders.values()) {
      watcher.close();
    }
  }

  private watchFolder(folder: string): void {
    try {
      const watcher = fs.watch(folder, { persistent: false }, (_event, name) => {
        if (name === null || this.seen.has(path.join(folder, name))) {
          this.look();
        }
      });
      // A folder that goes away ends its events; looking goes on.
      watcher.on('error', () => watcher.close());
      this.folders.set(folder, watcher);
    } catch {
      // No such folder yet, or no more watches to be had: looking now and then has to do.
    }
  }

  private look(): void {
    if (this.looking) {
      this.again = true;
      return;
    }
    this.looking = true;
    const files = [...this.seen.keys()];
    void Promise.all(files.map(stateOf)).then((states) => {
      this.looking = false;
      if (this.closed) {
        return;
      }
      let changed = false;
      for (const [index, file] of files.entries()) {
        const before = this.seen.get(file);
        const now = states[index] ?? '';
        if (before !== undefined && before !== now) {
          this.seen.set(file, now);
          changed = true;
        }
      }
      if (changed) {
        this.tell();
      }
      if (this.again) {
        this.again = false;
        this.look();
      }
    });
  }

  private tell(): void {
    const rest = this.lastTold + this.options.restMs - performance.now();
    this.telling ??= setTimeout(
      () => {
        this.telling = null;
        this.lastTold = performance.now();
        this.onChange();
      },
      Math.max(this.options.settleMs, rest),
    );
  }
}

async function stateOf(file: string): Promise<string> {
  try {
    return describe(await fs.promises.stat(file, { bigint: true }));
  } catch {
    // Not there, or not to be looked at: a state like others.
    return '';
  }
}

function stateNow(file: string): string {
  try {
    return describe(fs.statSync(file, { bigint: true }));
  } catch {
    // As above.
    return '';
  }
}

function describe({ dev, ino, size, mtimeNs, mode }: fs.BigIntStats): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${mode}`;
}
