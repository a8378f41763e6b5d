import type { GateDecision, NamedFile, OpeningGate } from './gate';

/** What a command follows of the names that stand in an image (`--follow`). */
export type Follow = 'none' | 'local' | 'all';

/**
 * The command line's gate. The caller named the image, so what it names is followed as qemu-img does (`all`), to servers too, or only plain local names
 * (`local`), or nothing. A protocol that cannot be read stays closed under any of them.
 */
export function followGate(follow: Follow = 'all'): OpeningGate {
  return { decide: (named) => decide(follow, named) };
}

function decide(follow: Follow, named: NamedFile): GateDecision {
  if (follow === 'none' || (follow === 'local' && named.protocol !== null)) {
    return { allowed: false, reason: 'notFollowed' };
  }
  return named.path === null && named.address === null ? { allowed: false, reason: 'protocol' } : { allowed: true };
}
