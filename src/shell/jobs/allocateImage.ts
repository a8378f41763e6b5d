import type { GuestRange, JobRequest } from '../../protocol/jobs';
import { chooseWritable } from '../commands/manage/subject';
import { runWizard, type Choice, type Step } from '../commands/manage/wizard';
import { formatBytes, formatBytesExactly } from '../text/bytes';
import { explainSize, parseBytes, qemuSize } from '../text/sizes';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';

type Mode = Extract<JobRequest, { type: 'allocate' }>['mode'];

interface Allocation {
  readonly what: 'disk' | 'range';
  readonly range: GuestRange;
  readonly mode: Mode;
  readonly pace: PaceAnswers;
}

const MODES: readonly Choice<Mode>[] = [
  { label: 'Metadata', detail: 'What is empty gets clusters that read as zeroes, with space reserved for them: fast.', value: 'metadata' },
  { label: 'Zero-filled', detail: 'What is empty is written out with zeroes, also on file systems that reserve no space.', value: 'zero' },
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
    what: 'disk',
    range: { offset: 0, length: size },
    // QED has no zeroes with space.
    mode: format === 'qed' ? 'zero' : 'metadata',
    pace: DEFAULT_PACE,
  };
  const steps = [...rangeSteps(size), ...(format === 'qed' ? [] : [askMode]), ...paceSteps<Allocation>()];
  const answers = await runWizard(`Allocate ${name}`, initial, steps);
  if (answers === null) {
    return;
  }
  const { what, mode, pace } = answers;
  const range = what === 'range' ? answers.range : null;
  const part = range === null ? '' : `${formatBytes(range.length)} from ${formatBytes(range.offset)} on of `;
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

/** @param size of the disk, in bytes */
function rangeSteps(size: number): readonly Step<Allocation>[] {
  const isRange = ({ what }: Allocation): boolean => what === 'range';
  return [
    {
      ask: async (page, answers) => ({
        ...answers,
        what: await page.pick<Allocation['what']>({
          placeholder: 'What gets its space',
          choices: [
            { label: 'The whole disk', description: formatBytes(size), value: 'disk' },
            { label: 'A range…', detail: 'From one byte of the disk on, so many bytes.', value: 'range' },
          ],
          current: answers.what,
        }),
      }),
    },
    {
      when: isRange,
      ask: async (page, answers) => {
        const { range } = answers;
        const text = await page.text({
          prompt: 'First byte of the range',
          placeholder: '0',
          value: qemuSize(range.offset),
          check: (value) => {
            const offset = parseBytes(value);
            return offset !== null && offset >= size
              ? { message: `The disk ends at ${formatBytesExactly(size)}.`, isError: true }
              : explainSize(value, offset);
          },
        });
        const offset = parseBytes(text) ?? range.offset;
        return { ...answers, range: { offset, length: Math.min(range.length, size - offset) } };
      },
    },
    {
      when: isRange,
      ask: async (page, answers) => {
        const { range } = answers;
        const left = size - range.offset;
        const text = await page.text({
          prompt: 'Length of the range',
          placeholder: '1G',
          value: qemuSize(range.length),
          check: (value) => {
            const length = parseBytes(value);
            if (length === 0) {
              return { message: 'A range has at least one byte.', isError: true };
            }
            return length !== null && length > left
              ? { message: `Only ${formatBytesExactly(left)} are left from there to the end of the disk.`, isError: true }
              : explainSize(value, length);
          },
        });
        return { ...answers, range: { ...range, length: parseBytes(text) ?? range.length } };
      },
    },
  ];
}
