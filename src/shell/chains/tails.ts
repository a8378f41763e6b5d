import type { Chain, ImageFormat } from '../../protocol/chain';

/** A chain that was seen as the lower end of another. */
export interface Tail {
  /** As the engine reports it. */
  readonly path: string;
  readonly format: ImageFormat;
  readonly chain: Chain;
}

/**
 * The chains of a chain's backing files, so that each need not be asked for: a hundred images in one chain are then read once and not
 * fifty times. A chain with a loop has none, since where it ends depends on where it began.
 */
export function tailsOf(chain: Chain): Tail[] {
  if (chain.links.some(({ state }) => state.kind === 'loop')) {
    return [];
  }
  return chain.links.flatMap((link, index): Tail[] => {
    if (link.role !== 'backing' || link.state.kind !== 'open' || link.path === null || link.image === null) {
      return [];
    }
    const links = [{ ...link, role: 'active' as const, recordedName: link.path }, ...chain.links.slice(index + 1)];
    return [{ path: link.path, format: link.image.format, chain: { links } }];
  });
}
