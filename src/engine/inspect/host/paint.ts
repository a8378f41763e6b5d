import type { HostClass, Region } from '../../../protocol/inspect';
import type { Place } from '../../../protocol/place';

/** Something that claims a stretch of the file. Earlier claims win where two overlap. */
export interface Claim {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
  readonly class: HostClass;
  readonly label: string;
  readonly place: Place | null;
}

/** Cuts [from, to) into regions, each with the first claim that covers it; what nobody claims is given by `rest`. */
export function paint(
  from: number,
  to: number,
  claims: readonly Claim[],
  rest: (start: number, end: number) => readonly Region[],
): Region[] {
  const inside = claims.filter(({ start, end }) => start < to && end > from);
  const edges = [...new Set([from, to, ...inside.flatMap(({ start, end }) => [Math.max(start, from), Math.min(end, to)])])].sort(
    (a, b) => a - b,
  );
  const regions: Region[] = [];
  let last: Claim | undefined;
  for (let index = 0; index + 1 < edges.length; index++) {
    const start = edges[index]!;
    const end = edges[index + 1]!;
    const claim = inside.find((candidate) => candidate.start <= start && candidate.end >= end);
    if (!claim) {
      regions.push(...rest(start, end));
    } else if (claim === last) {
      const region = regions.pop()!;
      regions.push({ ...region, length: region.length + end - start });
    } else {
      regions.push({ hostOffset: start, length: end - start, class: claim.class, label: claim.label, place: claim.place });
    }
    last = claim;
  }
  return regions;
}
