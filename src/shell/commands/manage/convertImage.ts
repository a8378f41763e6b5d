import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ConvertResult, FormatOptions, WritableFormat } from '../../../protocol/manage';
import { tellError, tellInformation, tellWarning } from '../../messages';
import { formatBytes, formatBytesExactly } from '../../text/bytes';
import { plainText } from '../../text/plain';
import { counted } from '../../chains/wording';
import { realPathOf } from '../../trust/realPath';
import { requireTrust } from '../../trust/required';
import { createOptions, saidOptions } from './formatOptions';
import { givesPassphrase, mayReplace, newFile, WRITABLE_FORMATS } from './newImages';
import { COPY_COMMAND, copyCommand, defaultFolder, perform, showNew, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { reviewStep, type ReviewRow } from './review';
import { chooseSubject, type Subject } from './subject';
import { runWizard, type Step } from './wizard';

interface Conversion {
  readonly targetFormat: WritableFormat;
  readonly target: string;
  readonly options: FormatOptions;
  readonly compress: boolean;
  readonly salvage: boolean;
  readonly bitmaps: boolean;
  /** ID of an internal snapshot; null for the active state. */
  readonly snapshot: string | null;
}

const askFormat: Step<Conversion> = {
  ask: async (page, answers) => ({
    ...answers,
    targetFormat: await page.pick({ placeholder: 'Format of the new image', choices: WRITABLE_FORMATS, current: answers.targetFormat }),
    options: {},
    compress: false,
    bitmaps: false,
  }),
};

/** *Convert…*: the disk, with all that its chain holds for it, as one new image. */
export async function convertImage(parts: ManageParts, argument: unknown): Promise<void> {
  if (!(await requireTrust('In a workspace that is not trusted, no image is made.'))) {
    return;
  }
  const subject = await chooseSubject(parts, argument);
  if (subject === null) {
    return;
  }
  const name = `${path.basename(subject.path, path.extname(subject.path))}-copy`;
  const askPlace: Step<Conversion> = {
    ask: async (page, answers) => ({
      ...answers,
      target: await newFile(page, answers.targetFormat, vscode.Uri.joinPath(defaultFolder(subject.path), name)),
    }),
  };
  const review = reviewStep<Conversion>({
    action: ({ target }) => `Convert to ${plainText(path.basename(target), 60)}`,
    summary: ({ targetFormat, compress, bitmaps }) =>
      [targetFormat, ...(compress ? ['compressed'] : []), ...(bitmaps ? ['with bitmaps'] : [])].join(', '),
    operation: (answers) => operationOf(subject, answers),
    specs: ({ targetFormat, options }) => createOptions(targetFormat, options, false),
    extras: (answers) => [...compressRow(answers), ...snapshotRow(subject, answers), ...bitmapsRow(subject, answers), salvageRow(answers)],
  });
  const initial: Conversion = {
    targetFormat: subject.format === 'qcow2' ? 'raw' : 'qcow2',
    target: '',
    options: {},
    compress: false,
    salvage: false,
    bitmaps: false,
    snapshot: null,
  };
  const answers = await runWizard(`Convert ${subject.name}`, initial, [askFormat, askPlace, review]);
  if (answers === null) {
    return;
  }
  const files = await Promise.all(subject.links.flatMap(({ path: file }) => (file === null ? [] : [realPathOf(file)])));
  if (files.includes(await realPathOf(answers.target))) {
    void tellError(`${plainText(path.basename(answers.target))} is a part of what is converted. Choose another file.`);
    return;
  }
  const operation = operationOf(subject, answers);
  if ((await mayReplace(parts, answers.target)) && (await givesPassphrase(parts, answers.target, operation.params.options))) {
    const result = await perform(parts, operation);
    await showNew(parts, answers.target, answers.targetFormat);
    tellDone(
      [`${subject.name} is converted to ${plainText(path.basename(answers.target))}.`, ...remarksOn(result)].join(' '),
      operation,
      isWhole(result) ? tellInformation : tellWarning,
    );
  }
}

/** *Measure…*: how large a new image of what this one holds would be. */
export async function measureImage(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseSubject(parts, argument);
  if (subject === null) {
    return;
  }
  const targetFormat = await runWizard<WritableFormat>(`Measure ${subject.name}`, 'qcow2', [
    {
      ask: (page, current) =>
        page.pick({
          placeholder: 'Format of the image whose size is to be known',
          choices: WRITABLE_FORMATS.filter(({ value }) => value !== 'qed'),
          current,
        }),
    },
  ]);
  if (targetFormat === null) {
    return;
  }
  const operation: Operation<'measure'> = {
    method: 'measure',
    params: { source: { path: subject.path, format: subject.format }, targetFormat, options: {} },
    title: `Measuring ${subject.name}`,
  };
  const { required, fullyAllocated, bitmaps } = await perform(parts, operation);
  const sentences = [
    `${subject.name} as ${targetFormat}: ${formatBytesExactly(required)}, at most ${formatBytes(fullyAllocated)} once the guest has written everywhere`,
    ...(bitmaps === null ? [] : [`${formatBytes(bitmaps)} for its bitmaps`]),
  ];
  if ((await tellInformation(`${sentences.join('; ')}.`, COPY_COMMAND)) === COPY_COMMAND) {
    await copyCommand(operation.method, operation.params);
  }
}

function isWhole({ unreadable, skippedBitmaps }: ConvertResult): boolean {
  return unreadable === 0 && skippedBitmaps.length === 0;
}

/** What of the image is not in the new one. */
function remarksOn({ unreadable, skippedBitmaps }: ConvertResult): readonly string[] {
  return [
    ...(unreadable === 0 ? [] : [`${formatBytes(unreadable)} could not be read and are zeroes there.`]),
    ...(skippedBitmaps.length === 0
      ? []
      : [`Bitmaps that were not saved properly are left out: ${skippedBitmaps.map((name) => plainText(name, 60)).join(', ')}.`]),
  ];
}

function compressRow({ targetFormat, compress }: Conversion): readonly ReviewRow<Conversion>[] {
  return targetFormat !== 'qcow2'
    ? []
    : [
        {
          label: 'Compressed',
          value: compress ? 'yes' : 'no (default)',
          meaning: 'Smaller, slower to read; what the guest writes later is not compressed',
          change: (_page, answers) => Promise.resolve({ ...answers, compress: !answers.compress }),
        },
      ];
}

function bitmapsRow({ summary }: Subject, { targetFormat, bitmaps }: Conversion): readonly ReviewRow<Conversion>[] {
  return targetFormat !== 'qcow2' || summary.bitmaps.length === 0
    ? []
    : [
        {
          label: 'Bitmaps',
          value: bitmaps ? 'copied' : 'left out (default)',
          meaning: `Whether the new image keeps the ${counted(summary.bitmaps.length, 'record')} of what was written`,
          change: (_page, answers) => Promise.resolve({ ...answers, bitmaps: !answers.bitmaps }),
        },
      ];
}

function salvageRow({ salvage }: Conversion): ReviewRow<Conversion> {
  return {
    label: 'What cannot be read',
    value: salvage ? 'becomes zeroes' : 'ends the conversion (default)',
    meaning: 'To save what can be saved of a damaged image or disk',
    change: (_page, answers) => Promise.resolve({ ...answers, salvage: !answers.salvage }),
  };
}

function snapshotRow({ summary }: Subject, { snapshot }: Conversion): readonly ReviewRow<Conversion>[] {
  const { snapshots } = summary;
  if (snapshots.length === 0) {
    return [];
  }
  const titleOf = (id: string): string => plainText(snapshots.find((one) => one.id === id)?.name ?? id, 60);
  return [
    {
      label: 'State',
      value: snapshot === null ? 'as it is now (default)' : `snapshot ${titleOf(snapshot)}`,
      change: async (page, answers) => ({
        ...answers,
        snapshot: await page.pick<string | null>({
          placeholder: 'Which state of the disk is converted',
          choices: [
            { label: 'As it is now', description: 'default', value: null },
            ...snapshots.map(({ id }) => ({ label: `Snapshot ${titleOf(id)}`, description: `ID ${plainText(id, 40)}`, value: id })),
          ],
          current: answers.snapshot,
        }),
      }),
    },
  ];
}

function operationOf(
  subject: Subject,
  { targetFormat, target, options, compress, snapshot, salvage, bitmaps }: Conversion,
): Operation<'convert'> {
  return {
    method: 'convert',
    params: {
      source: { path: subject.path, format: subject.format },
      snapshot,
      target,
      targetFormat,
      options: saidOptions(createOptions(targetFormat, options, false), options),
      compress,
      salvage,
      bitmaps,
    },
    title: `Converting ${subject.name}`,
  };
}
