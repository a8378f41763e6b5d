import * as path from 'node:path';
import * as vscode from 'vscode';

import type { BackingReference, FormatOptions, WritableFormat } from '../../../protocol/manage';
import { askPermission } from '../../messages';
import { formatBytes } from '../../text/bytes';
import { plainText } from '../../text/plain';
import { explainSize, parseBytes, qemuSize } from '../../text/sizes';
import { realPathOf } from '../../trust/realPath';
import { requireTrust } from '../../trust/required';
import { createOptions, isEncrypted, saidOptions } from './formatOptions';
import { defaultFolder, perform, showNew, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { reviewStep, type ReviewRow } from './review';
import { chooseSubject, dependentNames, listed } from './subject';
import { runWizard, type Page, type Step } from './wizard';

interface NewImage {
  readonly format: WritableFormat;
  /** Bytes; null: as large as the backing file. */
  readonly size: number | null;
  readonly path: string;
  readonly backing: { readonly path: string; readonly format: BackingReference['format']; readonly relative: boolean } | null;
  readonly options: FormatOptions;
}

export const WRITABLE_FORMATS: readonly { readonly value: WritableFormat; readonly label: string; readonly detail: string }[] = [
  { value: 'qcow2', label: 'qcow2', detail: 'Grows as it is written; snapshots, backing files, bitmaps, compression.' },
  { value: 'raw', label: 'raw', detail: 'The bytes of the disk and nothing else; every tool reads it.' },
  { value: 'qed', label: 'QED', detail: 'Grows as it is written; backing files. For existing QED set-ups.' },
];

const SUFFIX: Readonly<Record<WritableFormat, string>> = { qcow2: '.qcow2', qed: '.qed', raw: '.raw' };

const UNTRUSTED = 'In a workspace that is not trusted, no image is made.';

const askFormat: Step<NewImage> = {
  ask: async (page, answers) => ({
    ...answers,
    format: await page.pick({ placeholder: 'Format of the image', choices: WRITABLE_FORMATS, current: answers.format }),
  }),
};

const askSize: Step<NewImage> = {
  ask: async (page, answers) => ({ ...answers, size: await sizeOnPage(page, answers.size ?? 20 * 1024 ** 3) }),
};

const review = reviewStep<NewImage>({
  action: ({ path: file }) => `Create ${plainText(path.basename(file), 60)}`,
  summary: ({ format, size, backing }) =>
    [
      format,
      ...(size === null ? [] : [formatBytes(size)]),
      ...(backing === null ? [] : [`on ${plainText(path.basename(backing.path), 60)}`]),
    ].join(', '),
  operation: operationOf,
  specs: ({ format, options, backing }) => createOptions(format, options, backing !== null),
  extras: (answers) => overlayRows(answers),
});

/** *New Image…*. */
export async function newImage(parts: ManageParts): Promise<void> {
  if (!(await requireTrust(UNTRUSTED))) {
    return;
  }
  const initial: NewImage = { format: 'qcow2', size: null, path: '', backing: null, options: {} };
  const askPlace: Step<NewImage> = {
    ask: async (page, answers) => ({ ...answers, path: await newFile(page, answers.format, vscode.Uri.joinPath(defaultFolder(), 'disk')) }),
  };
  await create(parts, await runWizard('New Image', initial, [askFormat, askSize, askPlace, review]));
}

/** *New Overlay on This…*: an image that holds what changes from now on; this one stays as it is. */
export async function newOverlay(parts: ManageParts, argument: unknown): Promise<void> {
  if (!(await requireTrust(UNTRUSTED))) {
    return;
  }
  const base = await chooseSubject(parts, argument);
  if (base === null) {
    return;
  }
  const initial: NewImage = {
    format: base.format === 'qed' ? 'qed' : 'qcow2',
    size: null,
    path: '',
    backing: { path: await realPathOf(base.path), format: base.format, relative: true },
    options: {},
  };
  const name = `${path.basename(base.path, path.extname(base.path))}-overlay`;
  const askPlace: Step<NewImage> = {
    ask: async (page, answers) => ({
      ...answers,
      path: await newFile(page, answers.format, vscode.Uri.joinPath(defaultFolder(base.path), name)),
    }),
  };
  await create(parts, await runWizard(`New Overlay on ${base.name}`, initial, [askPlace, review]));
}

/** Asks for a size, saying under the field what it was understood as. */
export async function sizeOnPage(page: Page, size: number): Promise<number> {
  const text = await page.text({
    prompt: 'Size of the disk that the guest sees',
    placeholder: '20G',
    value: qemuSize(size),
    check: (value) => {
      const bytes = parseBytes(value);
      return bytes === 0 ? { message: 'A disk of no size is no use.', isError: true } : explainSize(value, bytes);
    },
  });
  return parseBytes(text) ?? size;
}

/** Asks for the place of a new file; its name gets the format's suffix. */
export function newFile(page: Page, format: WritableFormat, suggested: vscode.Uri): Promise<string> {
  return page.saveFile({
    saveLabel: 'Choose',
    defaultUri: suggested.with({ path: `${suggested.path}${SUFFIX[format]}` }),
    filters: { 'Disk images': ['qcow2', 'qed', 'raw', 'img'], 'All files': ['*'] },
  });
}

/** Before a file is replaced on which others build. The file dialog has asked about the file itself. */
export async function mayReplace(parts: ManageParts, file: string): Promise<boolean> {
  const dependents = await dependentNames(parts, file);
  return (
    dependents.length === 0 ||
    askPermission(
      `Replace ${plainText(path.basename(file))}, on which other images build?`,
      ['These read what they do not hold from it and would be worthless:', listed(dependents)],
      'Replace It',
    )
  );
}

/** Asks for the passphrase of a new image that is to be encrypted. False when the person gave none: then nothing is made. */
export async function givesPassphrase({ passphrases }: ManageParts, file: string, options: FormatOptions): Promise<boolean> {
  return !isEncrypted(options) || passphrases.choose(file);
}

function overlayRows({ format, size, backing }: NewImage): readonly ReviewRow<NewImage>[] {
  if (backing === null) {
    return [];
  }
  return [
    {
      label: 'Format',
      value: format,
      change: async (page, answers) => ({
        ...answers,
        format: await page.pick({
          placeholder: 'Format of the overlay',
          choices: WRITABLE_FORMATS.filter(({ value }) => value !== 'raw'),
          current: answers.format,
        }),
        options: {},
      }),
    },
    {
      label: 'Size',
      value: size === null ? 'as large as the backing file (default)' : formatBytes(size),
      change: async (page, answers) => ({ ...answers, size: await sizeOnPage(page, answers.size ?? 20 * 1024 ** 3) }),
    },
    {
      label: 'Backing file recorded',
      value: backing.relative ? 'relative to the overlay (default)' : 'as an absolute path',
      meaning: 'A relative name still holds when the folder with both is moved',
      change: (_page, answers) => Promise.resolve({ ...answers, backing: { ...backing, relative: !backing.relative } }),
    },
  ];
}

function operationOf({ format, size, path: file, backing, options }: NewImage): Operation<'create'> {
  return {
    method: 'create',
    title: `Creating ${plainText(path.basename(file))}`,
    params: {
      path: file,
      format,
      size,
      backing: backing === null ? null : { name: recordedName(file, backing.path, backing.relative), format: backing.format },
      options: saidOptions(createOptions(format, options, backing !== null), options),
    },
  };
}

/** A backing file's name as `file` records it. */
export function recordedName(file: string, backing: string, relative: boolean): string {
  if (!relative) {
    return backing;
  }
  const way = path.relative(path.dirname(file), backing).replaceAll(path.sep, '/');
  // On another drive there is no way; and what looks like a protocol (`a:b`) would be taken for one.
  return path.isAbsolute(way) ? backing : /^[^/]*:/.test(way) ? `./${way}` : way;
}

async function create(parts: ManageParts, answers: NewImage | null): Promise<void> {
  if (answers === null || !(await mayReplace(parts, answers.path))) {
    return;
  }
  const operation = operationOf(answers);
  if (!(await givesPassphrase(parts, answers.path, operation.params.options))) {
    return;
  }
  await perform(parts, operation);
  await showNew(parts, answers.path, answers.format);
  tellDone(`${plainText(path.basename(answers.path))} is created.`, operation);
}
