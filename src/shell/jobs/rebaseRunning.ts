import { backingAsItIs, newBackingStep, type NewBacking } from '../commands/manage/newBackingFile';
import { chooseWritable } from '../commands/manage/subject';
import { runWizard } from '../commands/manage/wizard';
import { plainText } from '../text/plain';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';

interface Rebase extends NewBacking {
  readonly pace: PaceAnswers;
}

/** *Rebase with Running Guest…*: a job that builds an image on another backing file, while a guest goes on and reads the same. */
export async function rebaseRunning(parts: JobParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed']);
  if (subject === null) {
    return;
  }
  const { name, path, format } = subject;
  const initial: Rebase = { ...backingAsItIs(subject), pace: DEFAULT_PACE };
  const answers = await runWizard(`Rebase ${name}`, initial, [newBackingStep<Rebase>(parts, subject), ...paceSteps<Rebase>()]);
  if (answers === null) {
    return;
  }
  const { chosen, pace } = answers;
  await offerJob(parts, {
    subject,
    request: { type: 'rebase', image: { path, format }, backing: chosen },
    settings: jobSettings(pace),
    question: chosen === null ? `Rebase ${name}, so that it stands alone?` : `Rebase ${name} onto ${plainText(chosen.name, 200)}?`,
    action: 'Rebase',
    remarks: [
      'Where the two backing files differ, data is copied into the image first. The guest reads the same at every moment; if it is cancelled, the backing file stays.',
      describePace(pace),
    ],
  });
}
