import * as path from 'node:path';

import type { BitmapSummary, Chain, ChainLink, SnapshotSummary } from '../../protocol/chain';

/*
 * The tree's content as a value: from what is known of each image file to a forest of chains. Roots are the active layers, the images
 * that no other overlays. Below a root lies its whole chain in one flat list, base last - nested, a chain a hundred deep could not be
 * read - and below each image what belongs to it alone.
 */

/** What is known of one image file that was found in the workspace or added by hand. */
export interface KnownImage {
  /** Absolute path. */
  readonly path: string;
  /** The person added it; otherwise it was found. */
  readonly added: boolean;
  readonly description: ChainDescription;
}

export type ChainDescription =
  | { readonly kind: 'chain'; readonly chain: Chain }
  /** Not even the active layer could be looked at; one sentence. */
  | { readonly kind: 'failed'; readonly message: string };

export interface ImageNode {
  readonly kind: 'image';
  readonly id: string;
  /** Of the active layer as the workspace spells it, else as the chain has it; null for a name that is no local file. */
  readonly path: string | null;
  readonly link: ChainLink;
  /** Path of the image whose header names this one; null for the active layer. */
  readonly namedBy: string | null;
  /** Path of the active layer of the chain that this row stands in. */
  readonly activeLayer: string;
  readonly added: boolean;
  /** The last image of a chain that ends: it has no backing file. */
  readonly isBase: boolean;
  /** Paths of the images that have this one as their backing file, sorted. */
  readonly overlays: readonly string[];
  /** Tells roots of the same file name apart; null where the name alone does. */
  readonly folder: string | null;
  readonly children: readonly ForestNode[];
}

/** A file that should be an image and could not be looked at. */
export interface FailedNode {
  readonly kind: 'failed';
  readonly id: string;
  readonly path: string;
  readonly added: boolean;
  readonly message: string;
  readonly children: readonly [];
}

export interface GroupNode {
  readonly kind: 'snapshots' | 'bitmaps' | 'overlays';
  readonly id: string;
  readonly image: string;
  readonly children: readonly ForestNode[];
}

export interface SnapshotNode {
  readonly kind: 'snapshot';
  readonly id: string;
  readonly image: string;
  readonly snapshot: SnapshotSummary;
  readonly children: readonly [];
}

export interface BitmapNode {
  readonly kind: 'bitmap';
  readonly id: string;
  readonly image: string;
  readonly bitmap: BitmapSummary;
  readonly children: readonly [];
}

/** A reference from a base to an image that overlays it. */
export interface OverlayNode {
  readonly kind: 'overlay';
  readonly id: string;
  readonly image: string;
  readonly overlay: string;
  readonly children: readonly [];
}

export type ForestNode = ImageNode | FailedNode | GroupNode | SnapshotNode | BitmapNode | OverlayNode;

export interface Forest {
  readonly roots: readonly ForestNode[];
}

export const EMPTY_FOREST: Forest = { roots: [] };

/** Builds the forest; the order of `images` does not matter. */
export function buildForest(images: readonly KnownImage[]): Forest {
  const sorted = [...images].sort((a, b) => comparePaths(a.path, b.path));
  const chains = sorted.flatMap(({ description }) => (description.kind === 'chain' ? [description.chain] : []));
  const overlays = overlaysOf(chains);
  const roots = activeLayers(sorted);
  const ambiguous = repeated(roots.map(({ path: file }) => path.basename(file)));

  return {
    roots: roots.map((image): ForestNode => {
      if (image.description.kind === 'failed') {
        return {
          kind: 'failed',
          id: image.path,
          path: image.path,
          added: image.added,
          message: image.description.message,
          children: [],
        };
      }
      const folder = ambiguous.has(path.basename(image.path)) ? path.dirname(image.path) : null;
      return chainNode(image, image.description.chain, overlays, folder);
    }),
  };
}

/** Ids of the nodes in which an image shows; where it is a root comes first. */
export function nodesOfImage(forest: Forest, file: string): string[] {
  const found: string[] = [];
  for (const root of forest.roots) {
    if (isOf(root, file)) {
      found.unshift(root.id);
    }
    for (const child of root.children) {
      if (isOf(child, file)) {
        found.push(child.id);
      }
    }
  }
  return found;
}

function isOf(node: ForestNode, file: string): boolean {
  return node.kind === 'image'
    ? node.link.state.kind !== 'loop' && (node.path === file || node.link.path === file)
    : node.kind === 'failed' && node.path === file;
}

/** The file that a row is about; null for a name that is no local file. */
export function fileOf(node: ForestNode): string | null {
  switch (node.kind) {
    case 'image':
    case 'failed':
      return node.path;
    case 'snapshots':
    case 'bitmaps':
    case 'overlays':
    case 'snapshot':
    case 'bitmap':
      return node.image;
    case 'overlay':
      return node.overlay;
  }
}

/**
 * One file may stand in the forest as two images: a raw disk whose guest wrote a qcow2 header is raw to the overlay that says so, and
 * qcow2 to whoever looks at the file alone. A link that is not open has no format and stands for the file.
 */
function keyOf(link: ChainLink): string {
  return `${link.image?.format ?? ''}\n${link.path ?? link.recordedName}`;
}

function keysOf(link: ChainLink): string[] {
  const name = link.path ?? link.recordedName;
  // A loop leads back to an image that was opened, under whichever format.
  return link.state.kind === 'loop' ? ['qcow2', 'qed', 'vmdk', 'raw'].map((format) => `${format}\n${name}`) : [keyOf(link)];
}

/** Paths of the direct overlays of each image. */
function overlaysOf(chains: readonly Chain[]): ReadonlyMap<string, readonly string[]> {
  const overlays = new Map<string, Set<string>>();
  for (const { links } of chains) {
    let holder: ChainLink | null = null;
    for (const link of links) {
      if (link.role === 'backing' && holder?.path) {
        for (const key of keysOf(link)) {
          const known = overlays.get(key) ?? new Set<string>();
          overlays.set(key, known.add(holder.path));
        }
      }
      if (link.role === 'active' || link.role === 'backing') {
        holder = link;
      }
    }
  }
  return new Map([...overlays].map(([key, paths]) => [key, [...paths].sort(comparePaths)]));
}

/** The images that are nobody's backing or data file; of a ring of images that overlay each other the first one. */
function activeLayers(sorted: readonly KnownImage[]): KnownImage[] {
  const namedByOthers = new Set<string>();
  for (const { description } of sorted) {
    for (const link of linksBelow(description)) {
      for (const key of keysOf(link)) {
        namedByOthers.add(key);
      }
    }
  }
  const roots = new Set(
    sorted.filter((image) => {
      const active = activeLink(image);
      return active === null || !namedByOthers.has(keyOf(active));
    }),
  );

  // What no root leads to lies on a ring.
  const shown = new Set([...roots].flatMap(({ description }) => linksBelow(description).map(keyOf)));
  for (const image of sorted) {
    const active = activeLink(image);
    if (active !== null && !roots.has(image) && !shown.has(keyOf(active))) {
      roots.add(image);
      shown.add(keyOf(active));
      for (const link of linksBelow(image.description)) {
        shown.add(keyOf(link));
      }
    }
  }
  return sorted.filter((image) => roots.has(image));
}

function activeLink({ description }: KnownImage): ChainLink | null {
  return description.kind === 'chain' ? (description.chain.links[0] ?? null) : null;
}

function linksBelow(description: ChainDescription): readonly ChainLink[] {
  return description.kind === 'chain' ? description.chain.links.slice(1) : [];
}

function chainNode(image: KnownImage, chain: Chain, overlays: ReadonlyMap<string, readonly string[]>, folder: string | null): ForestNode {
  const [active, ...below] = chain.links;
  if (active === undefined) {
    return { kind: 'failed', id: image.path, path: image.path, added: image.added, message: 'It has no layers.', children: [] };
  }
  const links = withHolders(active, below);
  const distinct = distinctIds();
  const last = links.findLast(({ link }) => link.role === 'backing')?.link ?? active;

  function node(link: ChainLink, holder: ChainLink | null, id: string, following: readonly ForestNode[]): ImageNode {
    const known = overlays.get(keyOf(link)) ?? [];
    return {
      kind: 'image',
      id,
      path: holder === null ? image.path : link.path,
      link,
      namedBy: holder?.path ?? null,
      activeLayer: image.path,
      added: holder === null && image.added,
      isBase: link === last && link !== active && link.state.kind === 'open' && link.image?.backingName === null,
      overlays: known,
      folder: holder === null ? folder : null,
      children: [...following, ...groupsOf(link, known, id)],
    };
  }

  const rows = new Map<ChainLink, ForestNode[]>();
  for (const { link, holder } of links.filter(({ link }) => link.role !== 'backing')) {
    const siblings = rows.get(holder) ?? [];
    rows.set(holder, siblings);
    siblings.push(node(link, holder, distinct(`${image.path}\n${link.role}\n${holder.path ?? ''}\n${nameOf(link)}`), []));
  }
  const layers = links
    .filter(({ link }) => link.role === 'backing')
    .map(({ link, holder }) => {
      const ring = link.state.kind === 'loop' ? '\nloop' : '';
      return node(link, holder, distinct(`${image.path}\nbacking\n${nameOf(link)}${ring}`), rows.get(link) ?? []);
    });
  const root = node(active, null, image.path, rows.get(active) ?? []);
  return { ...root, children: [...root.children, ...layers] };
}

/** Each link below the active layer, with the image whose header names it. */
export function withHolders(active: ChainLink, below: readonly ChainLink[]): { link: ChainLink; holder: ChainLink }[] {
  let layer = active;
  return below.map((link) => {
    const holder = layer;
    if (link.role === 'backing') {
      layer = link;
    }
    return { link, holder };
  });
}

function groupsOf(link: ChainLink, overlays: readonly string[], id: string): GroupNode[] {
  const image = link.path;
  if (image === null || link.state.kind === 'loop') {
    return [];
  }
  const { snapshots = [], bitmaps = [] } = link.image ?? {};
  const groups: GroupNode[] = [
    {
      kind: 'snapshots',
      id: `${id}\nsnapshots`,
      image,
      children: snapshots.map((snapshot) => ({
        kind: 'snapshot',
        id: `${id}\nsnapshots\n${snapshot.index}`,
        image,
        snapshot,
        children: [],
      })),
    },
    {
      kind: 'bitmaps',
      id: `${id}\nbitmaps`,
      image,
      children: bitmaps.map((bitmap) => ({ kind: 'bitmap', id: `${id}\nbitmaps\n${bitmap.index}`, image, bitmap, children: [] })),
    },
    {
      kind: 'overlays',
      id: `${id}\noverlays`,
      image,
      // A single overlay is the row above; a list of it would only say so again.
      children:
        overlays.length < 2
          ? []
          : overlays.map((overlay) => ({ kind: 'overlay', id: `${id}\noverlays\n${overlay}`, image, overlay, children: [] })),
    },
  ];
  return groups.filter(({ children }) => children.length > 0);
}

function nameOf(link: ChainLink): string {
  return link.path ?? link.recordedName;
}

function repeated(names: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>();
  return new Set(names.filter((name) => seen.size === seen.add(name).size));
}

/** Gives each id of a chain out once: a hostile descriptor may list one extent many times, and a view wants its ids distinct. */
function distinctIds(): (id: string) => string {
  const taken = new Set<string>();
  return (id) => {
    let candidate = id;
    for (let count = 2; taken.has(candidate); count += 1) {
      candidate = `${id}\n${count}`;
    }
    taken.add(candidate);
    return candidate;
  };
}

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

/** By name as a person sorts (`disk2` before `disk10`), and never equal for two different paths. */
function comparePaths(a: string, b: string): number {
  return collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);
}
