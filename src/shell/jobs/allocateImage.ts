import type { JobRequest } from '../../protocol/jobs';
import { chooseWritable } from '../commands/manage/subject';
import { runWizard, type Choice, type Step } from '../commands/manage/wizard';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';
import { chosenRange, rangeSteps, wholeDisk, type RangeAnswers } from './range';

type Mode = Extract<JobRequest, { type: 'allocate' }>['mode'];

interface Allocation extends RangeAnswers {
  readonly mode: Mode;
  readonly pace: PaceAnswers;
}

const MODES: readonly Choice<Mode>[] = [
  { label: 'Metadata', detail: 'What is empty gets clusters that read as zeroes, with space reserved for them: fast.', value: 'metadata' },
  { label: 'Zero-filled', detail: 'What is empty is written out with zeroes: slow, and the same on every file system.', value: 'zero' },
];

/** *Allocate…*: gives the disk of a thin image, or a range of it, its space, so that no write there fails for want of it. */
export async function allocateImage(parts: JobParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed', 'raw']);
  if (subject === null) {
    return;
  }
  const { name, format, path, summary } = subject;
  const size = summary.virtualSize;
  const initial: Allocation = {
    ...wholeDisk(size),
    // QED has no zeroes with space.
    mode: format === 'qed' ? 'zero' : 'metadata',
    pace: DEFAULT_PACE,
  };
  const steps = [
    ...rangeSteps<Allocation>(size, 'What gets its space'),
    ...(format === 'qed' ? [] : [askMode]),
    ...paceSteps<Allocation>(),
  ];
  const answers = await runWizard(`Allocate ${name}`, initial, steps);
  if (answers === null) {
    return;
  }
  const { mode, pace } = answers;
  const { range, part } = chosenRange(answers);
  await offerJob(parts, {
    subject,
    request: { type: 'allocate', image: { path, format }, range, mode },
    settings: jobSettings(pace),
    question: `Allocate ${part}${name}?`,
    action: 'Allocate',
    remarks: ['The guest reads the same at every moment, also if it is cancelled; what was allocated then stays.', describePace(pace)],
  });
}

const askMode: Step<Allocation> = {
  ask: async (page, answers) => ({
    ...answers,
    mode: await page.pick({ placeholder: 'How what is empty gets its space', choices: MODES, current: answers.mode }),
  }),
};
