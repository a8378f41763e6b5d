import type { GuestObserver } from '../trackedNode';
import type { GraphNode } from './graphNode';

/** Tells one observer of the requests to an image and to all that is built on it, whatever the graph's shape becomes. */
export class GuestWatch {
  private readonly node: GraphNode;
  private readonly observer: GuestObserver;
  private readonly attached = new Map<GraphNode, () => void>();

  constructor(node: GraphNode, observer: GuestObserver) {
    this.node = node;
    this.observer = observer;
  }

  /** To be called when the graph's shape has changed. */
  refresh(): void {
    const above = new Set<GraphNode>();
    // An overlay is its own key among the parents of what it is built on; users have keys of their own.
    const add = (node: GraphNode) => {
      above.add(node);
      for (const [parent, { role }] of node.parents) {
        if (role === 'backing') {
          add(parent as GraphNode);
        }
      }
    };
    add(this.node);
    for (const [node, stop] of this.attached) {
      if (!above.has(node)) {
        this.attached.delete(node);
        stop();
      }
    }
    for (const node of above) {
      if (!this.attached.has(node)) {
        this.attached.set(node, node.tracked.observe(this.observer));
      }
    }
  }

  stop(): void {
    for (const stop of this.attached.values()) {
      stop();
    }
    this.attached.clear();
  }
}
