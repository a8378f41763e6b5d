import type { Forest, ForestNode } from './forest';

/** What a view must draw again. */
export interface ForestChange {
  /** Roots came, went or changed places: the whole view. */
  readonly roots: boolean;
  /** Ids of the nodes whose row or list of children is another; none lies below another of them. */
  readonly nodes: readonly string[];
}

/** Compares two forests; nodes are the same when their ids are. */
export function compareForests(before: Forest, after: Forest): ForestChange {
  if (!sameIds(before.roots, after.roots)) {
    return { roots: true, nodes: [] };
  }
  return { roots: false, nodes: changedNodes(before.roots, after.roots) };
}

function changedNodes(before: readonly ForestNode[], after: readonly ForestNode[]): string[] {
  return after.flatMap((node, index) => {
    const old = before[index];
    if (old === undefined || rowOf(old) !== rowOf(node) || !sameIds(old.children, node.children)) {
      return [node.id];
    }
    return changedNodes(old.children, node.children);
  });
}

/** All that a row is drawn from; children have rows of their own. */
function rowOf(node: ForestNode): string {
  return JSON.stringify({ ...node, children: [] });
}

function sameIds(before: readonly ForestNode[], after: readonly ForestNode[]): boolean {
  return before.length === after.length && before.every((node, index) => node.id === after[index]?.id);
}
