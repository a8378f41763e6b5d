import type { Forest, ImageNode } from './forest';

/**
 * Paths of all images that have this one somewhere below them, the nearest first: what they hold for their guests changes when this one's
 * content does.
 */
export function dependentsOf(forest: Forest, files: ReadonlySet<string>): string[] {
  const overlays = overlaysByPath(forest);
  const found = new Set<string>();
  let layer = [...files];
  while (layer.length > 0) {
    const next = layer.flatMap((file) => [...(overlays.get(file) ?? [])]).filter((file) => !found.has(file) && !files.has(file));
    for (const file of next) {
      found.add(file);
    }
    layer = [...new Set(next)];
  }
  return [...found];
}

function overlaysByPath({ roots }: Forest): ReadonlyMap<string, ReadonlySet<string>> {
  const overlays = new Map<string, Set<string>>();
  const images = roots.flatMap((root) => [root, ...root.children]).filter((node): node is ImageNode => node.kind === 'image');
  for (const node of images) {
    for (const name of [node.path, node.link.path]) {
      if (name !== null) {
        const known = overlays.get(name) ?? new Set();
        overlays.set(name, known);
        for (const overlay of node.overlays) {
          known.add(overlay);
        }
      }
    }
  }
  return overlays;
}
