import { after, type Awaitable } from '../../awaitable';
import type { Storage } from '../../io/storage';
import type { Serialised } from './serialised';
import { encodeUpdate, type QedTables } from './tables';

/**
 * The order of writes of a QED image. New clusters and tables lie behind everything that is in use, so nothing has to be flushed to write
 * them; what must not reach the disk before them are the entries that lead to them. These wait in memory (`QedTables`) until a flush:
 *
 * 1. flush: data, and the length of the file, are on the disk;
 * 2. write the entries;
 * 3. flush: so are they.
 *
 * QEMU writes entries at once, and for that must flush every new cluster of an image with a backing file: without it, a crash could leave
 * an entry that hides the backing file's bytes behind a cluster that never was written. Here there is nothing to hide before step 2. An
 * interruption at any point leaks clusters at worst.
 */
export class QedFlusher {
  private readonly storage: Storage;
  private readonly tables: QedTables;
  private readonly allocations: Serialised;
  private running: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  /** @param allocations what takes clusters runs in it */
  constructor(storage: Storage, tables: QedTables, allocations: Serialised) {
    this.storage = storage;
    this.tables = tables;
    this.allocations = allocations;
  }

  /** Ends when everything that ended before the call is on the disk. Calls that come while one runs share the one after it. */
  flush(): Promise<void> {
    if (!this.running && !this.next) {
      this.running = this.run();
      return this.running;
    }
    // Whether the one that runs fails is its callers' matter.
    this.next ??= (this.running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        this.next = null;
        this.running = this.run();
        return this.running;
      });
    return this.next;
  }

  private async run(): Promise<void> {
    try {
      const updates = await this.allocations.run(() => after(this.lengthen(), () => this.tables.takeUpdates()));
      try {
        await this.storage.flush();
        if (updates.length === 0) {
          return;
        }
        for (const update of updates) {
          await this.storage.write(encodeUpdate(update), update.hostOffset);
        }
        await this.storage.flush();
      } catch (error) {
        this.tables.putBack(updates);
        throw error;
      }
      this.tables.settle(updates);
    } finally {
      this.running = null;
    }
  }

  /** QEMU follows no entry that leads past the last whole cluster of the file. */
  private lengthen(): Awaitable<void> {
    const end = this.tables.allocationEnd;
    return this.storage.size < end ? this.storage.truncate(end) : undefined;
  }
}
