import { corruptImage, EngineError, invalidRequest, unsupportedRequest } from '../../../errors';
import { readPadded } from '../../../io/source';
import { encode } from '../../../layout/codec';
import { concatenate, concatenatePadded } from '../../../layout/concatenate';
import { WordTable } from '../../../layout/wordTable';
import type { PaceOptions } from '../../../pace';
import { readSnapshotTable, type Qcow2Snapshot } from '../snapshots';
import { EXTENSION, LIMITS, SNAPSHOT_ENTRY, SNAPSHOT_EXTRA } from '../structures';
import { withFields } from './header';
import { clearCopied, countTree, markCopied, readL1 } from './mappingTree';
import type { QuietImage } from './quietImage';

/* Internal snapshots of the disk: each keeps an L1 table of its own, and one more reference to all that it leads to. */

/** QEMU cuts longer names off. */
const MAX_NAME = 255;

export interface NewSnapshot {
  readonly name: string;
  /** When it is taken; now when left out. */
  readonly date?: Date | undefined;
}

/** The snapshots of the image. @throws EngineError `image.corrupt` when their table makes no sense */
export function listSnapshots(image: QuietImage): readonly Qcow2Snapshot[] {
  const { snapshots, problems } = readSnapshotTable(image.metadata);
  const problem = problems.find(({ severity }) => severity === 'error');
  if (problem) {
    throw corruptImage(image.storage.name, problem.structure, problem.hostOffset, problem.message);
  }
  return snapshots;
}

/**
 * Keeps the disk as it is under a name, which need not be the only one of its kind.
 * @returns its ID
 * @throws EngineError `request.unsupported` where refcounts are too narrow or the data lies in another file; `file.io`, `file.full`
 */
export async function createSnapshot(image: QuietImage, snapshot: NewSnapshot, options: PaceOptions = {}): Promise<string> {
  requireOwnData(image);
  const existing = listSnapshots(image);
  if (existing.length >= LIMITS.maxSnapshots) {
    throw invalidRequest(`${image.storage.name}: There are ${existing.length} snapshots, as many as there can be.`);
  }
  const { metadata } = image;
  const encoder = new TextEncoder();
  const name = encoder.encode(snapshot.name).subarray(0, MAX_NAME);
  const id = String(Math.max(0, ...existing.map((other) => leadingNumber(other.id))) + 1);
  const active = readL1(image, metadata.l1TableOffset, metadata.l1Size);
  const copy = new WordTable(active?.bytes.slice() ?? new Uint8Array(0), 0, 'big');
  clearCopied(copy);
  const l1Offset = await image.place(copy.bytes);
  await counted(image, active, { hostOffset: l1Offset, length: copy.bytes.length }, options);
  await image.flush();
  // From here on nothing may be written in place that the snapshot will share.
  await markCopied(image, active, true, options);
  const now = (snapshot.date ?? new Date()).getTime();
  const idBytes = encoder.encode(id);
  const entry = concatenatePadded(
    8,
    encode(SNAPSHOT_ENTRY, {
      l1_table_offset: l1Offset,
      l1_size: metadata.l1Size,
      id_str_size: idBytes.length,
      name_size: name.length,
      date_sec: Math.floor(now / 1000) % 2 ** 32,
      date_nsec: (now % 1000) * 1_000_000,
      extra_data_size: SNAPSHOT_EXTRA.length,
    }),
    encode(SNAPSHOT_EXTRA, { disk_size: metadata.size }),
    idBytes,
    name,
  );
  await replaceTable(image, [...existing.map((other) => entryBytes(image, other)), entry]);
  return id;
}

/**
 * Makes the disk what it was when the snapshot was taken; what it is now is lost. The snapshot stays.
 * @param idOrName an ID wins
 * @throws EngineError `request.invalid` when there is none, `request.unsupported`, `file.io`, `file.full`
 */
export async function applySnapshot(image: QuietImage, idOrName: string, options: PaceOptions = {}): Promise<void> {
  requireOwnData(image);
  const snapshots = listSnapshots(image);
  const snapshot = snapshots.find(({ id }) => id === idOrName) ?? snapshots.find(({ name }) => name === idOrName);
  if (!snapshot) {
    throw invalidRequest(`Failed to load snapshot: No such file or directory`);
  }
  const { metadata } = image;
  if (snapshot.diskSize !== metadata.size && metadata.extensions.some(({ type }) => type === EXTENSION.bitmaps)) {
    throw unsupportedRequest(`${image.storage.name}: The snapshot's disk has another size; the image's bitmaps cannot follow.`);
  }
  if (!(snapshot.diskSize <= snapshot.l1Size * metadata.l2Coverage)) {
    throw corruptImage(image.storage.name, 'snapshot table', snapshot.hostOffset, 'The L1 table is too short for the size of its disk.');
  }
  const before = readL1(image, metadata.l1TableOffset, metadata.l1Size);
  const kept = readL1(image, snapshot.l1TableOffset, snapshot.l1Size);
  const next = new WordTable(kept?.bytes.slice() ?? new Uint8Array(0), 0, 'big');
  clearCopied(next);
  const l1Offset = next.length === 0 ? 0 : await image.place(next.bytes);
  await counted(image, kept, { hostOffset: l1Offset, length: next.bytes.length }, options);
  await image.flush();
  await markCopied(image, kept, false, options);
  // One sector of the header says which tree is the active one, and how long its disk is.
  await image.changeHeader((contents) =>
    withFields(contents, {
      l1_table_offset: BigInt(l1Offset),
      l1_size: BigInt(next.length),
      size: BigInt(snapshot.diskSize),
    }),
  );
  await countTree(image, before, -1, options);
  if (before) {
    await image.release(metadata.l1TableOffset, before.bytes.length);
  }
  await image.flush();
  await markActiveCopied(image, options);
}

/**
 * Gives a snapshot up, and what only it needed.
 * @param selector by ID, or the first of that name
 * @throws EngineError `request.invalid` when there is none, `file.io`
 */
export async function deleteSnapshot(
  image: QuietImage,
  selector: { readonly id: string } | { readonly name: string },
  options: PaceOptions = {},
): Promise<void> {
  const snapshots = listSnapshots(image);
  const snapshot = snapshots.find((candidate) => ('id' in selector ? candidate.id === selector.id : candidate.name === selector.name));
  if (!snapshot) {
    throw invalidRequest('snapshot not found');
  }
  requireOwnData(image);
  const tree = readL1(image, snapshot.l1TableOffset, snapshot.l1Size);
  await replaceTable(
    image,
    snapshots.filter((other) => other !== snapshot).map((other) => entryBytes(image, other)),
  );
  await countTree(image, tree, -1, options);
  await image.release(snapshot.l1TableOffset, Math.max(1, snapshot.l1Size * 8));
  await image.flush();
  await markActiveCopied(image, options);
}

/** Writes the table to a new place, lets the header lead there, and gives the old place up. */
export async function replaceTable(image: QuietImage, entries: readonly Uint8Array[]): Promise<void> {
  const table = concatenate(entries);
  if (table.length > LIMITS.maxSnapshotTableBytes) {
    throw invalidRequest(`${image.storage.name}: The snapshot table would be larger than ${LIMITS.maxSnapshotTableBytes} bytes.`);
  }
  const { nbSnapshots, snapshotsOffset } = image.metadata;
  const oldLength = nbSnapshots > 0 ? readSnapshotTable(image.metadata).length : 0;
  const offset = entries.length > 0 ? await image.place(table) : 0;
  await image.changeHeader((contents) => withFields(contents, { nb_snapshots: BigInt(entries.length), snapshots_offset: BigInt(offset) }));
  if (oldLength > 0) {
    await image.release(snapshotsOffset, oldLength);
    await image.flush();
  }
}

/** An entry as it stands in the table, with what nobody here knows of it. */
export function entryBytes(image: QuietImage, snapshot: Qcow2Snapshot): Uint8Array {
  return readPadded(image.storage, snapshot.hostOffset, snapshot.length);
}

/** Counts a tree once more; what was taken for it is given back when that fails. */
async function counted(
  image: QuietImage,
  tree: WordTable | null,
  taken: { readonly hostOffset: number; readonly length: number },
  options: PaceOptions,
): Promise<void> {
  try {
    await countTree(image, tree, 1, options);
  } catch (error) {
    if (taken.hostOffset !== 0) {
      await image.release(taken.hostOffset, Math.max(1, taken.length));
    }
    await image.flush();
    throw error;
  }
}

async function markActiveCopied(image: QuietImage, options: PaceOptions): Promise<void> {
  const { l1TableOffset, l1Size } = image.metadata;
  await markCopied(image, readL1(image, l1TableOffset, l1Size), true, options);
  await image.storage.flush();
}

function requireOwnData(image: QuietImage): void {
  if (image.metadata.hasDataFile) {
    throw new EngineError('request.unsupported', 'Operation not supported', {
      file: image.storage.name,
      remedy: 'Images with an external data file have no internal snapshots.',
    });
  }
}

/** As `strtoul` has it: digits at the start. */
function leadingNumber(id: string): number {
  return Number(/^\s*(\d{1,15})/.exec(id)?.[1] ?? 0);
}
