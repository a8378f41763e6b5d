import { EngineError } from '../../errors';

/** QEMU's permissions, in its words. */
export type Permission = 'consistent read' | 'write' | 'write unchanged' | 'resize';

/** Somebody who uses a node: an overlay that reads from it, an export, a job, a command. */
export interface NodeParent {
  /** Shown in messages. */
  readonly name: string;
  /** The parent's word for the node: `root` for a user, `backing` for an overlay. */
  readonly role: 'root' | 'backing';
  readonly uses: ReadonlySet<Permission>;
  readonly shares: ReadonlySet<Permission>;
}

const READ: ReadonlySet<Permission> = new Set(['consistent read']);
const FILL: ReadonlySet<Permission> = new Set(['consistent read', 'write unchanged']);
const ALL: ReadonlySet<Permission> = new Set(['consistent read', 'write', 'write unchanged', 'resize']);
const NOTHING: ReadonlySet<Permission> = new Set();

/** An overlay: what it reads from may not change under it. */
export function backingParent(overlay: string): NodeParent {
  return { name: overlay, role: 'backing', uses: READ, shares: FILL };
}

/** A job that writes into an image what is read there anyway. */
export function fillingParent(name: string): NodeParent {
  return { name, role: 'root', uses: FILL, shares: ALL };
}

/** A job that changes an image under its overlays: nobody else may look until it has ended, neither at it nor at those between. */
export function jobParent(name: string, writes: boolean): NodeParent {
  return { name, role: 'root', uses: writes ? ALL : NOTHING, shares: NOTHING };
}

/** Whether the image is written by this user. */
export function changes({ uses }: NodeParent): boolean {
  return uses.has('write') || uses.has('write unchanged');
}

/** A user, who like QEMU's tools and exports lets others do the same. */
export function rootParent(name: string, readOnly: boolean): NodeParent {
  return { name, role: 'root', uses: readOnly ? READ : ALL, shares: ALL };
}

/** A user that relies on what it reads, as an overlay does. */
export function stableParent(name: string): NodeParent {
  return { name, role: 'root', uses: READ, shares: FILL };
}

/**
 * Refuses a new use of a node that one of those before does not allow, or that does not allow what one of them does.
 * @throws EngineError `file.locked`
 */
export function requireCompatible(filename: string, parents: Iterable<NodeParent>, added: NodeParent): void {
  for (const parent of parents) {
    requireShared(filename, parent, added);
    requireShared(filename, added, parent);
  }
}

function requireShared(filename: string, sharing: NodeParent, using: NodeParent): void {
  for (const permission of using.uses) {
    if (!sharing.shares.has(permission)) {
      throw new EngineError(
        'file.locked',
        `Conflicts with use by ${sharing.name} as '${sharing.role}', which does not allow '${permission}' on ${filename}.`,
        { file: filename, remedy: `Close ${sharing.role === 'backing' ? 'the overlay' : 'that use'} first.` },
      );
    }
  }
}
