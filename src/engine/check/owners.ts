import type { Finding } from '../../protocol/check';

/** How many users of a cluster are named. */
const MOST_NAMED = 4;

/** Clusters for which it is worth knowing who uses them; more would say no more to anybody. */
const MOST_CLUSTERS = 10_000;

const FILTER_BITS = 16;
const FILTER_MASK = 2 ** FILTER_BITS - 1;

interface Users {
  readonly names: string[];
  guest: Finding['guest'];
}

/** Someone who uses a cluster. */
export interface User {
  readonly name: string;
  readonly guest: Finding['guest'];
}

/**
 * Who refers to the clusters that findings are about. The scan only counts references; once it is known which clusters are in question,
 * the tables are gone over again and their users are noted here.
 */
export class Owners {
  private readonly users = new Map<number, Users>();
  /** Low bits of the clusters in question, so that a hundred million entries are passed over quickly. */
  private readonly filter = new Int32Array(2 ** (FILTER_BITS - 5));

  get wanted(): boolean {
    return this.users.size > 0;
  }

  want(cluster: number): void {
    if (this.users.size < MOST_CLUSTERS && !this.users.has(cluster)) {
      this.users.set(cluster, { names: [], guest: null });
      const low = cluster & FILTER_MASK;
      this.filter[low >>> 5] = (this.filter[low >>> 5] ?? 0) | (1 << (low & 31));
    }
  }

  /** Whether a cluster may be one in question. */
  maybe(cluster: number): boolean {
    return (((this.filter[(cluster & FILTER_MASK) >>> 5] ?? 0) >>> (cluster & 31)) & 1) !== 0;
  }

  /** Notes a user of the clusters `first` to `last`, where any of them is in question. */
  note(first: number, last: number, user: () => User): void {
    if (last - first > this.users.size) {
      for (const cluster of this.users.keys()) {
        if (cluster >= first && cluster <= last) {
          this.noteOne(cluster, user);
        }
      }
      return;
    }
    for (let cluster = first; cluster <= last; cluster++) {
      if (this.maybe(cluster)) {
        this.noteOne(cluster, user);
      }
    }
  }

  /** "used by A and B" with `before` in front, or nothing where no user is known. */
  of(cluster: number, before: string): string {
    const names = this.users.get(cluster)?.names ?? [];
    if (names.length === 0) {
      return '';
    }
    const all = names.length > MOST_NAMED ? [...names.slice(0, MOST_NAMED), 'others'] : names;
    const listed = all.length === 1 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1) ?? ''}`;
    return `${before}used by ${listed}`;
  }

  /** The guest cluster that the first known user maps there. */
  guestOf(cluster: number): Finding['guest'] {
    return this.users.get(cluster)?.guest ?? null;
  }

  private noteOne(cluster: number, user: () => User): void {
    const users = this.users.get(cluster);
    if (users && users.names.length <= MOST_NAMED) {
      const { name, guest } = user();
      users.names.push(name);
      users.guest ??= guest;
    }
  }
}
