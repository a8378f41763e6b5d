import { chooseWritable } from '../commands/manage/subject';
import { runWizard } from '../commands/manage/wizard';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';
import { chosenRange, rangeSteps, wholeDisk, type RangeAnswers } from './range';

interface Trim extends RangeAnswers {
  readonly pace: PaceAnswers;
}

/** *Trim Zeroes…*: gives back the space of what holds nothing but zeroes, on the disk of an image or a range of it. */
export async function trimImage(parts: JobParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed', 'raw']);
  if (subject === null) {
    return;
  }
  const { name, format, path, summary } = subject;
  const size = summary.virtualSize;
  const steps = [...rangeSteps<Trim>(size, 'Where zeroes are looked for'), ...paceSteps<Trim>()];
  const answers = await runWizard(`Trim Zeroes of ${name}`, { ...wholeDisk(size), pace: DEFAULT_PACE }, steps);
  if (answers === null) {
    return;
  }
  const { pace } = answers;
  const { range, part } = chosenRange(answers);
  await offerJob(parts, {
    subject,
    request: { type: 'trim', image: { path, format }, range },
    settings: jobSettings(pace),
    question: `Trim zeroes of ${part}${name}?`,
    action: 'Trim',
    remarks: [
      'The guest reads the same at every moment, also if it is cancelled. Space that an allocation has reserved for zeroes is given back too.',
      describePace(pace),
    ],
  });
}
