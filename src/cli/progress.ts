import type { OutputStream } from './streams';

/** A share smaller than this is not worth a new line, in percent (qemu-img has the same). */
const STEP = 2;

/**
 * The progress line of `-p`: `    (12.34/100%)`, written over itself. Without `-p` a SIGUSR1 asks for one line on standard error, as it
 * does of qemu-img (Node's own answer to that signal is to open a debugger's port).
 */
export class ProgressLine {
  private readonly out: OutputStream;
  private readonly enabled: boolean;
  private last = -1;
  private current = 0;
  private readonly onSignal: () => void;

  constructor(out: OutputStream, err: OutputStream, enabled: boolean) {
    this.out = out;
    this.enabled = enabled;
    this.onSignal = () => err.write(line(this.current));
    if (!enabled && process.platform !== 'win32') {
      process.on('SIGUSR1', this.onSignal);
    }
  }

  /** Shows 0 %. */
  begin(): void {
    this.show(0);
  }

  /** As a scan reports it. */
  readonly report = (done: number, total: number): void => {
    this.show(total > 0 ? Math.min(100, (done / total) * 100) : 100);
  };

  /** Shows 100 %: the work is done. */
  complete(): void {
    this.show(100);
  }

  /** Ends the line, whatever came of the work. */
  end(): void {
    if (this.enabled) {
      this.out.write('\n');
    } else {
      process.off('SIGUSR1', this.onSignal);
    }
  }

  private show(percent: number): void {
    this.current = percent;
    if (this.enabled && percent !== this.last && (percent === 0 || percent === 100 || percent > this.last + STEP)) {
      this.last = percent;
      this.out.write(line(percent));
    }
  }
}

function line(percent: number): string {
  return `    (${percent.toFixed(2)}/100%)\r`;
}
