import * as fs from 'node:fs';
import * as path from 'node:path';

export interface WatchOptions {
  /** Milliseconds between two looks at the files where the system tells nothing. */
  readonly pollMs: number;
  /** Milliseconds that changes are gathered before they are told. */
  readonly settleMs: number;
}

export const DEFAULT_WATCH: WatchOptions = { pollMs: 2000, settleMs: 200 };

/**
 * Watches files that may come, go, be replaced and be written to at any moment. The system's own events make it prompt; where there are
 * none (network file systems, containers) looking now and then finds the same. Many changes are told once.
 */
export class FileWatch {
  private readonly paths: readonly string[];
  private readonly options: WatchOptions;
  private readonly onChange: () => void;
  private readonly folders: fs.FSWatcher[] = [];
  private readonly timer: NodeJS.Timeout;
  private settling: NodeJS.Timeout | null = null;
  private looking = false;
  private again = false;
  private closed = false;
  private seen: string[];

  /** @param paths absolute; a file that does not exist is watched for */
  constructor(paths: readonly string[], onChange: () => void, options: WatchOptions = DEFAULT_WATCH) {
    this.paths = [...new Set(paths)];
    this.onChange = onChange;
    this.options = options;
    this.seen = this.paths.map(stateNow);
    for (const folder of new Set(this.paths.map((file) => path.dirname(file)))) {
      this.watchFolder(folder);
    }
    this.timer = setInterval(() => this.look(), options.pollMs);
    this.timer.unref();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
    if (this.settling) {
      clearTimeout(this.settling);
    }
    for (const folder of this.folders) {
      folder.close();
    }
  }

  private watchFolder(folder: string): void {
    const names = new Set(this.paths.filter((file) => path.dirname(file) === folder).map((file) => path.basename(file)));
    try {
      const watcher = fs.watch(folder, { persistent: false }, (_event, name) => {
        if (name === null || names.has(name)) {
          this.look();
        }
      });
      // A folder that goes away ends its events; looking goes on.
      watcher.on('error', () => watcher.close());
      this.folders.push(watcher);
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
    void Promise.all(this.paths.map(stateOf)).then((states) => {
      this.looking = false;
      if (this.closed) {
        return;
      }
      if (states.some((state, index) => state !== this.seen[index])) {
        this.seen = states;
        this.settling ??= setTimeout(() => {
          this.settling = null;
          this.onChange();
        }, this.options.settleMs);
      }
      if (this.again) {
        this.again = false;
        this.look();
      }
    });
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
