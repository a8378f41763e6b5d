import * as path from 'node:path';

import type { BitmapSummary } from '../../../protocol/chain';
import type { BitmapReference } from '../../../protocol/manage';
import { ChainItem } from '../../chains/chainTree';
import { ImagePlace } from '../../editor/imagePlace';
import { tellInformation } from '../../messages';
import { formatBytes } from '../../text/bytes';
import { labelText, plainText } from '../../text/plain';
import { askBefore, follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { chooseWritable, type WritableSubject } from './subject';
import { runWizard, type Choice, type FieldRemark } from './wizard';

/** The format's limit for a bitmap's name, in bytes. */
const MAX_NAME = 1023;
const GRANULARITIES = Array.from({ length: 23 }, (_, power) => 512 * 2 ** power);
const DEFAULT_GRANULARITY = 65_536;

type SimpleMethod = 'bitmapRemove' | 'bitmapClear' | 'bitmapEnable' | 'bitmapDisable';

interface NewBitmap {
  readonly bitmap: string;
  readonly granularity: number;
  readonly enabled: boolean;
}

/** *Add Bitmap…*: a record of what the guest writes from now on, for incremental backups. */
export async function addBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2']);
  if (subject === null) {
    return;
  }
  const { bitmaps } = subject.summary;
  const answers = await runWizard<NewBitmap>(
    `Add Bitmap to ${subject.name}`,
    { bitmap: 'backup', granularity: DEFAULT_GRANULARITY, enabled: true },
    [
      {
        ask: async (page, known) => ({
          ...known,
          bitmap: await page.text({
            prompt: 'Name of the bitmap',
            placeholder: 'backup',
            value: known.bitmap,
            check: (text) => remarkOn(text, bitmaps),
          }),
        }),
      },
      {
        ask: async (page, known) => ({
          ...known,
          granularity: await page.pick({
            placeholder: 'Bytes of the disk that one bit stands for: finer tells more, coarser takes less space',
            choices: GRANULARITIES.map((value) => ({
              label: formatBytes(value),
              ...(value === DEFAULT_GRANULARITY ? { description: 'default' } : {}),
              value,
            })),
            current: known.granularity,
          }),
        }),
      },
      {
        ask: async (page, known) => ({
          ...known,
          enabled: await page.pick({
            placeholder: 'Whether it records',
            choices: [
              { label: 'Enabled', description: 'records every write from now on', value: true },
              { label: 'Disabled', description: 'records nothing until it is enabled', value: false },
            ],
            current: known.enabled,
          }),
        }),
      },
    ],
  );
  if (answers === null) {
    return;
  }
  const operation: Operation<'bitmapAdd'> = {
    method: 'bitmapAdd',
    params: { path: subject.path, format: subject.format, ...answers },
    title: `Adding a bitmap to ${subject.name}`,
    withoutLocks: subject.withoutLocks,
  };
  await finish(parts, subject, operation, `The bitmap ${plainText(answers.bitmap)} is added to ${subject.name}.`);
}

/** *Remove Bitmap…*. */
export async function removeBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  await withBitmap(parts, argument, 'Remove', async (subject, bitmap) => {
    const operation = simple('bitmapRemove', subject, bitmap, `Removing a bitmap of ${subject.name}`);
    const agreed = await askBefore(
      `Remove the bitmap ${plainText(bitmap.name)} of ${subject.name}?`,
      ['What it marked is forgotten; the next backup that relies on it has to be a full one. The disk does not change.'],
      'Remove',
      operation,
    );
    if (agreed) {
      await finish(parts, subject, operation, `The bitmap ${plainText(bitmap.name)} of ${subject.name} is removed.`);
    }
  });
}

/** *Clear Bitmap…*. */
export async function clearBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  await withBitmap(parts, argument, 'Clear', async (subject, bitmap) => {
    const operation = simple('bitmapClear', subject, bitmap, `Clearing a bitmap of ${subject.name}`);
    const agreed = await askBefore(
      `Clear the bitmap ${plainText(bitmap.name)} of ${subject.name}?`,
      ['It marks nothing afterwards: changes that no backup has yet would be left out of the next. The disk does not change.'],
      'Clear',
      operation,
    );
    if (agreed) {
      await finish(parts, subject, operation, `The bitmap ${plainText(bitmap.name)} of ${subject.name} marks nothing.`);
    }
  });
}

/** *Enable Bitmap…*. */
export async function enableBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  await withBitmap(parts, argument, 'Enable', (subject, bitmap) =>
    finish(
      parts,
      subject,
      simple('bitmapEnable', subject, bitmap, `Enabling a bitmap of ${subject.name}`),
      `The bitmap ${plainText(bitmap.name)} of ${subject.name} records every write.`,
    ),
  );
}

/** *Disable Bitmap…*. */
export async function disableBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  await withBitmap(parts, argument, 'Disable', (subject, bitmap) =>
    finish(
      parts,
      subject,
      simple('bitmapDisable', subject, bitmap, `Disabling a bitmap of ${subject.name}`),
      `The bitmap ${plainText(bitmap.name)} of ${subject.name} stays as it is.`,
    ),
  );
}

/** *Merge Bitmap…*: adds what another bitmap marks, of this image or of one of its chain. */
export async function mergeBitmap(parts: ManageParts, argument: unknown): Promise<void> {
  await withBitmap(parts, argument, 'Merge into', async (subject, bitmap) => {
    const sources = sourcesFor(subject, bitmap);
    if (sources.length === 0) {
      void tellInformation(`There is no other bitmap in ${subject.name} or below it that could be merged.`);
      return;
    }
    const source = await runWizard<BitmapReference>(`Merge Bitmap into ${plainText(bitmap.name, 60)}`, sources[0]!.value, [
      { ask: (page) => page.pick({ placeholder: 'Choose the bitmap whose marks are added', choices: sources }) },
    ]);
    if (source !== null) {
      const operation: Operation<'bitmapMerge'> = {
        method: 'bitmapMerge',
        params: { path: subject.path, format: subject.format, bitmap: bitmap.name, source },
        title: `Merging bitmaps of ${subject.name}`,
        withoutLocks: subject.withoutLocks,
      };
      await finish(parts, subject, operation, `The bitmap ${plainText(bitmap.name)} now marks what ${plainText(source.bitmap)} marks too.`);
    }
  });
}

function sourcesFor(subject: WritableSubject, target: BitmapSummary): readonly Choice<BitmapReference>[] {
  return subject.links.flatMap(({ image, path: file }, depth) => {
    if (image?.format !== 'qcow2' || file === null) {
      return [];
    }
    const location = depth === 0 ? subject.path : file;
    return image.bitmaps
      .filter(({ name, inUse }) => !inUse && !(depth === 0 && name === target.name))
      .map(({ name, granularity }) => ({
        label: labelText(name),
        description: `${plainText(path.basename(location))}, granularity ${formatBytes(granularity)}`,
        value: { path: location, format: image.format, bitmap: name },
      }));
  });
}

export function remarkOn(text: string, bitmaps: readonly Pick<BitmapSummary, 'name'>[]): FieldRemark | null {
  if (text === '') {
    return { message: 'A bitmap needs a name.', isError: true };
  }
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_NAME) {
    return { message: `The name has ${bytes} bytes; ${MAX_NAME} is the most.`, isError: true };
  }
  return bitmaps.some(({ name }) => name === text) ? { message: 'There is a bitmap of this name.', isError: true } : null;
}

async function withBitmap(
  parts: ManageParts,
  argument: unknown,
  verb: string,
  work: (subject: WritableSubject, bitmap: BitmapSummary) => Promise<void>,
): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2']);
  if (subject === null) {
    return;
  }
  const { bitmaps } = subject.summary;
  let bitmap: BitmapSummary | null = bitmaps.find((candidate) => isMeant(argument, candidate)) ?? null;
  if (bitmap === null) {
    if (bitmaps.length === 0) {
      void tellInformation(`${subject.name} has no bitmaps.`);
      return;
    }
    bitmap = await runWizard<BitmapSummary>(`${verb} Bitmap of ${subject.name}`, bitmaps[0]!, [
      {
        ask: (page) =>
          page.pick({
            placeholder: 'Choose a bitmap',
            choices: bitmaps.map((value) => ({
              label: labelText(value.name),
              description: [`granularity ${formatBytes(value.granularity)}`, value.auto ? 'enabled' : 'disabled'].join(', '),
              value,
            })),
          }),
      },
    ]);
  }
  if (bitmap !== null) {
    await work(subject, bitmap);
  }
}

/** Whether a command was run on this bitmap's row, or on it in the editor. */
function isMeant(argument: unknown, { name, index }: BitmapSummary): boolean {
  if (argument instanceof ImagePlace) {
    return argument.place.kind === 'bitmap' && argument.place.index === index;
  }
  return argument instanceof ChainItem && argument.node.kind === 'bitmap' && argument.node.bitmap.name === name;
}

function simple<M extends SimpleMethod>(method: M, subject: WritableSubject, { name }: BitmapSummary, title: string): Operation<M> {
  const { path: file, format, withoutLocks } = subject;
  const params: BitmapReference = { path: file, format, bitmap: name };
  return { method, params, title, withoutLocks };
}

async function finish(parts: ManageParts, subject: WritableSubject, operation: Operation, message: string): Promise<void> {
  await perform(parts, operation);
  await follow(parts, subject.path);
  tellDone(message, operation);
}
