import * as path from 'node:path';
import * as vscode from 'vscode';

import type { MirrorSync } from '../../protocol/jobs';
import type { WritableFormat } from '../../protocol/manage';
import { mayReplace, newFile, WRITABLE_FORMATS } from '../commands/manage/newImages';
import { defaultFolder } from '../commands/manage/operations';
import { chooseWritable } from '../commands/manage/subject';
import { runWizard, type Step } from '../commands/manage/wizard';
import { tellError } from '../messages';
import { plainText } from '../text/plain';
import { realPathOf } from '../trust/realPath';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';

interface Mirror {
  readonly sync: MirrorSync;
  readonly targetFormat: WritableFormat;
  readonly target: string;
  readonly pace: PaceAnswers;
}

/** *Mirror…*: a job that copies the disk to a new image, keeps that up with the guest, and lets the guest go on there when it is completed. */
export async function mirrorImage(parts: JobParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed', 'raw']);
  if (subject === null) {
    return;
  }
  const isOverlay = subject.links.some(({ role }) => role === 'backing');
  const askSync: Step<Mirror> = {
    when: () => isOverlay,
    ask: async (page, answers) => ({
      ...answers,
      sync: await page.pick<MirrorSync>({
        placeholder: 'What the new image holds',
        choices: [
          { label: 'The whole disk', description: 'default', detail: 'It stands alone.', value: 'full' },
          { label: 'What this image holds', detail: 'It builds on the same backing file.', value: 'top' },
        ],
        current: answers.sync,
      }),
    }),
  };
  const askFormat: Step<Mirror> = {
    ask: async (page, answers) => ({
      ...answers,
      targetFormat: await page.pick({
        placeholder: 'Format of the new image',
        choices: WRITABLE_FORMATS.filter(({ value }) => answers.sync === 'full' || value !== 'raw'),
        current: answers.targetFormat,
      }),
    }),
  };
  const name = `${path.basename(subject.path, path.extname(subject.path))}-mirror`;
  const askPlace: Step<Mirror> = {
    ask: async (page, answers) => ({
      ...answers,
      target: await newFile(page, answers.targetFormat, vscode.Uri.joinPath(defaultFolder(subject.path), name)),
    }),
  };
  const initial: Mirror = { sync: 'full', targetFormat: subject.format === 'qed' ? 'qed' : 'qcow2', target: '', pace: DEFAULT_PACE };
  const answers = await runWizard(`Mirror ${subject.name}`, initial, [askSync, askFormat, askPlace, ...paceSteps<Mirror>()]);
  if (answers === null) {
    return;
  }
  const { sync, targetFormat, target, pace } = answers;
  const targetName = plainText(path.basename(target), 80);
  const own = await Promise.all(subject.links.flatMap(({ path: file }) => (file === null ? [] : [realPathOf(file)])));
  if (own.includes(await realPathOf(target))) {
    void tellError(`${targetName} is a part of what is mirrored. Choose another file.`);
    return;
  }
  if (await mayReplace(parts, target)) {
    await offerJob(parts, {
      subject,
      request: { type: 'mirror', image: { path: subject.path, format: subject.format }, target, targetFormat, options: {}, sync },
      settings: jobSettings(pace),
      question: `Mirror ${subject.name} to ${targetName}?`,
      action: 'Mirror',
      remarks: [
        `When everything is copied it waits until you complete it: then the guest goes on in ${targetName}, and ${subject.name} stays as it was at that moment. Cancelled then, ${targetName} is a copy of the disk of that moment.`,
        describePace(pace),
      ],
    });
  }
}
