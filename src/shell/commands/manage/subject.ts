import * as path from 'node:path';

import type { ChainLink, ImageFormat, ImageSummary } from '../../../protocol/chain';
import type { ImageReference } from '../../../protocol/manage';
import { ChainItem } from '../../chains/chainTree';
import { dependentsOf } from '../../chains/dependents';
import { nodesOfImage } from '../../chains/forest';
import { formatByName } from '../../chains/imageNames';
import { describeUsage } from '../../chains/wording';
import { askPermission, tellError } from '../../messages';
import { plainText } from '../../text/plain';
import { realPathOf, withRealPaths } from '../../trust/realPath';
import { requireTrust } from '../../trust/required';
import type { ManageParts } from './parts';

/** An image that a command is about, as it is when the command begins. */
export interface Subject extends ImageReference {
  /** Its file name, for messages. */
  readonly name: string;
  readonly summary: ImageSummary;
  /** Its whole chain with itself first; each file has its one name. */
  readonly links: readonly ChainLink[];
}

/** An image that is to be changed. */
export interface WritableSubject extends Subject {
  /** Nothing tells whether another process uses it; the person was told and went on. */
  readonly withoutLocks: boolean;
}

/** The image that a command is about, for reading it. Null when the person chose none, or was told why it cannot be. */
export async function chooseSubject(parts: ManageParts, argument: unknown): Promise<Subject | null> {
  const file = await parts.targets.file(argument);
  return file === null ? null : describeSubject(parts, file, argument);
}

/** The same for changing it. Refuses in restricted mode and while another process writes it. */
export async function chooseWritable(
  parts: ManageParts,
  argument: unknown,
  formats: readonly ImageFormat[],
): Promise<WritableSubject | null> {
  if (!(await requireTrust('In a workspace that is not trusted, no image is changed.'))) {
    return null;
  }
  const subject = await chooseSubject(parts, argument);
  if (subject === null) {
    return null;
  }
  const { name, summary } = subject;
  if (!formats.includes(summary.format)) {
    void tellError(`${name} is ${summary.format}; this works for ${formats.join(', ')} only.`);
    return null;
  }
  if (summary.readOnly) {
    void tellError(`${name} may not be written: its file is read-only.`);
    return null;
  }
  if (summary.usage.inUse) {
    void tellError(`${name} is ${describeUsage(summary.usage)}. End that first: two writers would damage the image.`);
    return null;
  }
  if (!summary.usage.known && !(await acceptNoLocks(name))) {
    return null;
  }
  return { ...subject, withoutLocks: !summary.usage.known };
}

/** Describes an image; null, and said, when there is nothing to work with. */
export async function describeSubject(parts: ManageParts, file: string, argument?: unknown): Promise<Subject | null> {
  const name = plainText(path.basename(file));
  const format = await formatOf(parts, file, argument);
  if (format === null) {
    return null;
  }
  const { links } = await withRealPaths(await parts.engine.describeChain({ path: file, format }));
  const [active] = links;
  if (active?.image === undefined || active.image === null || active.state.kind !== 'open') {
    void tellError(`${name} could not be opened.`);
    return null;
  }
  const broken = active.image.problems.find(({ severity }) => severity === 'error');
  if (broken !== undefined) {
    void tellError(`${name} cannot be worked on: ${plainText(broken.message, 400)}`);
    return null;
  }
  return { path: file, format, name, summary: active.image, links };
}

/** Names of the images in the view that build on a file, however far above it. */
export async function dependentNames(parts: ManageParts, file: string): Promise<readonly string[]> {
  await parts.view.ready();
  const names = new Set([file, await parts.folders.toReal(file), await realPathOf(file)]);
  return dependentsOf(parts.model.forest, names);
}

/** A list of files for a dialog: names, one a line, as many as can be read. */
export function listed(files: readonly string[], most = 8): string {
  const shown = files.slice(0, most).map((file) => `• ${plainText(file, 400)}`);
  return [...shown, ...(files.length > most ? [`• and ${files.length - most} more`] : [])].join('\n');
}

async function formatOf(parts: ManageParts, file: string, argument: unknown): Promise<ImageFormat | null> {
  const known = formatInView(parts, file, argument);
  if (known !== null) {
    return known;
  }
  const [probed] = await parts.engine.probeFiles([file]);
  const format = probed ?? formatByName(file);
  if (format !== null) {
    return format;
  }
  // Whoever writes a disk as raw because nothing else is known of it lets its guest choose another format for the next reader.
  const name = plainText(path.basename(file));
  const isRaw = await askPermission(
    `Is ${name} a raw disk image?`,
    ['Its first bytes are those of no image format that is known here.'],
    'It Is Raw',
  );
  return isRaw ? 'raw' : null;
}

/** The format under which the view has it, where it does. */
function formatInView({ model }: ManageParts, file: string, argument: unknown): ImageFormat | null {
  if (argument instanceof ChainItem && argument.node.kind === 'image') {
    return argument.node.link.image?.format ?? null;
  }
  const ids = new Set(nodesOfImage(model.forest, file));
  const node = model.forest.roots.flatMap((root) => [root, ...root.children]).find(({ id }) => ids.has(id));
  return node?.kind === 'image' ? (node.link.image?.format ?? null) : null;
}

function acceptNoLocks(name: string): Promise<boolean> {
  return askPermission(
    `Change ${name} without locks?`,
    [
      'This system, or this file system, does not tell whether another process uses the image, and keeps none from writing it at the same time.',
      'Go on only when no virtual machine runs on it.',
    ],
    'Change It',
  );
}
