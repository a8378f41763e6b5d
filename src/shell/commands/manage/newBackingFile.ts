import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ChainLink } from '../../../protocol/chain';
import type { BackingReference } from '../../../protocol/manage';
import { tellError } from '../../messages';
import { labelText, plainText } from '../../text/plain';
import { realPathOf } from '../../trust/realPath';
import { recordedName } from './newImages';
import { defaultFolder } from './operations';
import type { ManageParts } from './parts';
import { dependentNames, describeSubject, type WritableSubject } from './subject';
import type { Choice, Page, Step } from './wizard';

/** What an image is to build on. */
export interface NewBacking {
  /** `browse`: a file that is still to be chosen. */
  readonly backing: ChainLink | 'none' | 'browse';
  /** As it is written into the header; null: nothing. */
  readonly chosen: BackingReference | null;
}

/** The images below one, from the top down. */
export function backingLinks({ links }: WritableSubject): readonly ChainLink[] {
  return links.filter(({ role }) => role === 'backing');
}

/** What the question begins with. */
export function backingAsItIs(subject: WritableSubject): NewBacking {
  return { backing: backingLinks(subject)[0] ?? 'none', chosen: null };
}

/** Asks for a new backing file: one of the chain, another, or none. */
export function newBackingStep<A extends NewBacking>(parts: ManageParts, subject: WritableSubject): Step<A> {
  return {
    async ask(page, answers) {
      for (;;) {
        const backing = await page.pick<NewBacking['backing']>({
          placeholder: 'The new backing file',
          choices: [
            ...backingLinks(subject).map((link, index): Choice<NewBacking['backing']> => ({
              label: labelText(path.basename(link.path ?? link.recordedName)),
              description: index === 0 ? 'the backing file it has' : 'of its chain',
              detail: plainText(link.path ?? link.recordedName, 400),
              value: link,
            })),
            { label: '$(folder-opened) Another image…', value: 'browse' },
            { label: '$(circle-slash) None', description: 'it then holds all of its disk itself', value: 'none' },
          ],
          current: answers.backing,
        });
        const chosen = await referenceTo(parts, subject, backing, page);
        if (chosen !== null || backing === 'none') {
          return { ...answers, backing, chosen };
        }
      }
    },
  };
}

/** The header's name for what was chosen; null where nothing was after all, or there is none. */
async function referenceTo(
  parts: ManageParts,
  subject: WritableSubject,
  backing: NewBacking['backing'],
  page: Page,
): Promise<BackingReference | null> {
  if (backing === 'none') {
    return null;
  }
  const own = await realPathOf(subject.path);
  if (backing !== 'browse') {
    const name = backing.path === null ? backing.recordedName : recordedName(own, backing.path, isBeside(subject.path, backing.path));
    return { name, format: backing.image?.format ?? 'qcow2' };
  }
  const file = await page.below('Another Image', (below) =>
    below.openFile({ openLabel: 'Use as Backing File', defaultUri: defaultFolder(subject.path) }),
  );
  if (file === null) {
    return null;
  }
  const real = await realPathOf(file);
  if (real === own || (await dependentNames(parts, subject.path)).includes(real)) {
    void tellError(`${plainText(path.basename(file))} builds on ${subject.name} itself: the chain would lead back to where it began.`);
    return null;
  }
  const chosen = await describeSubject(parts, file);
  return chosen === null ? null : { name: recordedName(own, real, isBeside(subject.path, file)), format: chosen.format };
}

/** Files of one workspace folder move together and name each other by the way between them. */
function isBeside(one: string, other: string): boolean {
  const folder = vscode.workspace.getWorkspaceFolder(vscode.Uri.file(one));
  return folder !== undefined && vscode.workspace.getWorkspaceFolder(vscode.Uri.file(other)) === folder;
}
