import * as path from 'node:path';

import type { GateAnswer, GateQuestion } from '../../protocol/engine';

/** Where the window stands: a window without a folder has no place in which a file may be opened only because an image names it. */
export interface Surroundings {
  readonly trusted: boolean;
  /** Absolute paths of the workspace's folders with symbolic links resolved. */
  readonly folders: readonly string[];
}

/** What the person decided about names that stand in images. */
export interface Decisions {
  /** Whether `target` - a file's path, or an address - may be opened because `image` names it. */
  isGranted(image: string, target: string): boolean;
  /** The file to open in place of the one that `image` names so; null when nobody said. */
  replacementFor(image: string, recordedName: string): string | null;
}

/** Protocols of QEMU that reach over a network. */
const NETWORK_PROTOCOLS = new Set([
  'ftp',
  'ftps',
  'gluster',
  'gluster+tcp',
  'gluster+rdma',
  'gluster+unix',
  'http',
  'https',
  'iscsi',
  'iser',
  'nbd',
  'nbd+tcp',
  'nbd+unix',
  'nbds',
  'nfs',
  'rbd',
  'sftp',
  'sheepdog',
  'sheepdog+tcp',
  'sheepdog+unix',
  'ssh',
  'vxhs',
]);

/**
 * The one policy for opening what an image names. In an untrusted workspace nothing; in a trusted one what lies in its folders; elsewhere,
 * or through a protocol, only what the person granted for this image; so for a network address, wherever it leads.
 */
export function decide(question: GateQuestion, surroundings: Surroundings, decisions: Decisions): GateAnswer {
  if (!surroundings.trusted) {
    return refused('untrustedWorkspace');
  }
  const replacement = decisions.replacementFor(question.image, question.recordedName);
  if (replacement !== null) {
    return { allowed: true, reason: null, replacement };
  }
  if (question.address !== null) {
    return decisions.isGranted(question.image, question.address) ? { allowed: true, reason: null } : refused('network');
  }
  if (question.protocol !== null && NETWORK_PROTOCOLS.has(question.protocol.toLowerCase())) {
    return refused('network');
  }
  if (question.path === null) {
    return refused('protocol');
  }
  if (decisions.isGranted(question.image, question.path)) {
    return { allowed: true, reason: null };
  }
  if (question.protocol !== null) {
    return refused('protocol');
  }
  return surroundings.folders.some((folder) => contains(folder, question.path ?? ''))
    ? { allowed: true, reason: null }
    : refused('outsideWorkspace');
}

/** Whether a file lies in a folder, however deep; both absolute and without symbolic links. */
export function contains(folder: string, file: string): boolean {
  const way = path.relative(folder, file);
  return way !== '' && way !== '..' && !way.startsWith(`..${path.sep}`) && !path.isAbsolute(way);
}

function refused(reason: NonNullable<GateAnswer['reason']>): GateAnswer {
  return { allowed: false, reason };
}
