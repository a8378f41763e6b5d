import type { SnapshotSummary } from '../../../protocol/chain';
import type { SnapshotReference } from '../../../protocol/manage';
import { ChainItem } from '../../chains/chainTree';
import { formatDate } from '../../chains/wording';
import { ImagePlace } from '../../editor/imagePlace';
import { tellInformation } from '../../messages';
import { formatBytes } from '../../text/bytes';
import { labelText, plainText } from '../../text/plain';
import { askBefore, follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { chooseWritable, dependentNames, listed, type WritableSubject } from './subject';
import { runWizard, type FieldRemark } from './wizard';

/** QEMU's tools cut a snapshot's name after so many bytes. */
const MAX_NAME = 255;

type SnapshotMethod = 'snapshotCreate' | 'snapshotApply';

/** *Create Snapshot…*: keeps the disk's state of this moment inside the image. */
export async function createSnapshot(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2']);
  if (subject === null) {
    return;
  }
  const { snapshots } = subject.summary;
  const name = await runWizard<string>(`Create Snapshot of ${subject.name}`, suggestedName(new Date()), [
    {
      ask: (page, value) =>
        page.text({ prompt: 'Name of the snapshot', placeholder: 'before-upgrade', value, check: (text) => remarkOn(text, snapshots) }),
    },
  ]);
  if (name === null) {
    return;
  }
  const operation = operationOf('snapshotCreate', subject, name, `Creating a snapshot of ${subject.name}`);
  await perform(parts, operation);
  await follow(parts, subject.path);
  tellDone(`The snapshot ${plainText(name)} of ${subject.name} is created.`, operation);
}

/** *Apply Snapshot…*: the disk becomes what it was when the snapshot was made. */
export async function applySnapshot(parts: ManageParts, argument: unknown): Promise<void> {
  const chosen = await chooseSnapshot(parts, argument, 'Apply');
  if (chosen === null) {
    return;
  }
  const { subject, snapshot } = chosen;
  const { name, summary } = subject;
  const dependents = await dependentNames(parts, subject.path);
  const operation = operationOf('snapshotApply', subject, snapshot.id, `Applying a snapshot of ${name}`);
  const agreed = await askBefore(
    `Take ${name} back to ${titleOf(snapshot)}?`,
    [
      `Its disk becomes what it was on ${formatDate(snapshot.dateMs)}. What was written since then is lost, unless another snapshot holds it. The snapshots stay.`,
      ...(snapshot.diskSize !== summary.virtualSize && snapshot.diskSize > 0
        ? [`The disk's size changes from ${formatBytes(summary.virtualSize)} to ${formatBytes(snapshot.diskSize)}.`]
        : []),
      ...(dependents.length === 0 ? [] : ['These images build on its present state and would break:', listed(dependents)]),
    ],
    'Apply',
    operation,
  );
  if (agreed) {
    await perform(parts, operation);
    await follow(parts, subject.path);
    tellDone(`${name} is back at ${titleOf(snapshot)}.`, operation);
  }
}

/** *Delete Snapshot…*. */
export async function deleteSnapshot(parts: ManageParts, argument: unknown): Promise<void> {
  const chosen = await chooseSnapshot(parts, argument, 'Delete');
  if (chosen === null) {
    return;
  }
  const { subject, snapshot } = chosen;
  const { path, format, withoutLocks } = subject;
  const operation: Operation<'snapshotDelete'> = {
    method: 'snapshotDelete',
    params: { path, format, id: snapshot.id, name: snapshot.name },
    title: `Deleting a snapshot of ${subject.name}`,
    withoutLocks,
  };
  const agreed = await askBefore(
    `Delete ${titleOf(snapshot)} of ${subject.name}?`,
    [
      `The state of ${formatDate(snapshot.dateMs)} cannot be brought back${snapshot.vmStateSize > 0 ? `, nor can the ${formatBytes(snapshot.vmStateSize)} of virtual machine state saved with it` : ''}. The disk as it is now does not change.`,
    ],
    'Delete',
    operation,
  );
  if (agreed) {
    await perform(parts, operation);
    await follow(parts, subject.path);
    tellDone(`${titleOf(snapshot)} of ${subject.name} is deleted.`, operation);
  }
}

/** What is wrong with a name, or to be known of it. */
export function remarkOn(text: string, snapshots: readonly Pick<SnapshotSummary, 'name' | 'id'>[]): FieldRemark | null {
  if (text.trim() === '') {
    return { message: 'A snapshot needs a name.', isError: true };
  }
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_NAME) {
    return { message: `The name has ${bytes} bytes; ${MAX_NAME} is the most.`, isError: true };
  }
  if (snapshots.some(({ name }) => name === text)) {
    return { message: 'There is a snapshot of this name; two could only be told apart by their IDs.', isError: true };
  }
  return snapshots.some(({ id }) => id === text) ? { message: 'Another snapshot has this as its ID.', isError: true } : null;
}

/** `2026-01-31-1200`. */
function suggestedName(now: Date): string {
  return formatDate(now.getTime()).slice(0, 16).replace(' ', '-').replace(':', '');
}

async function chooseSnapshot(
  parts: ManageParts,
  argument: unknown,
  verb: string,
): Promise<{ readonly subject: WritableSubject; readonly snapshot: SnapshotSummary } | null> {
  const subject = await chooseWritable(parts, argument, ['qcow2']);
  if (subject === null) {
    return null;
  }
  const { snapshots } = subject.summary;
  const known = snapshots.find((snapshot) => isMeant(argument, snapshot));
  if (known !== undefined) {
    return { subject, snapshot: known };
  }
  if (snapshots.length === 0) {
    void tellInformation(`${subject.name} has no snapshots.`);
    return null;
  }
  const snapshot = await runWizard<SnapshotSummary>(`${verb} Snapshot of ${subject.name}`, snapshots[0]!, [
    {
      ask: (page) =>
        page.pick({
          placeholder: 'Choose a snapshot',
          choices: snapshots.map((value) => ({
            label: labelText(value.name === '' ? `snapshot ${value.id}` : value.name),
            description: `ID ${plainText(value.id, 40)}, ${formatDate(value.dateMs)}`,
            value,
          })),
        }),
    },
  ]);
  return snapshot === null ? null : { subject, snapshot };
}

/** Whether a command was run on this snapshot's row, or on it in the editor. */
function isMeant(argument: unknown, { id, index }: SnapshotSummary): boolean {
  if (argument instanceof ImagePlace) {
    return argument.place.kind === 'snapshot' && argument.place.index === index;
  }
  return argument instanceof ChainItem && argument.node.kind === 'snapshot' && argument.node.snapshot.id === id;
}

function titleOf({ name, id }: SnapshotSummary): string {
  return name === '' ? `snapshot ${plainText(id, 40)}` : `snapshot ${plainText(name, 60)}`;
}

function operationOf<M extends SnapshotMethod>(method: M, subject: WritableSubject, snapshot: string, title: string): Operation<M> {
  const { path, format, withoutLocks } = subject;
  const params: SnapshotReference = { path, format, snapshot };
  return { method, params, title, withoutLocks };
}
