import type { GuestRange } from '../../protocol/jobs';
import type { Step } from '../commands/manage/wizard';
import { formatBytes, formatBytesExactly } from '../text/bytes';
import { explainSize, parseBytes, qemuSize } from '../text/sizes';

/** The part of a disk that a job is about, as a wizard asks for it. */
export interface RangeAnswers {
  readonly what: 'disk' | 'range';
  readonly range: GuestRange;
}

/** @param size of the disk, in bytes */
export function wholeDisk(size: number): RangeAnswers {
  return { what: 'disk', range: { offset: 0, length: size } };
}

/** What a job is asked for, null being the whole disk; and how a question begins about it. */
export function chosenRange({ what, range }: RangeAnswers): { readonly range: GuestRange | null; readonly part: string } {
  return what === 'range'
    ? { range, part: `${formatBytes(range.length)} from ${formatBytes(range.offset)} on of ` }
    : { range: null, part: '' };
}

/**
 * The pages that ask for it.
 * @param size of the disk, in bytes
 * @param placeholder of the first page
 */
export function rangeSteps<S extends RangeAnswers>(size: number, placeholder: string): readonly Step<S>[] {
  const isRange = ({ what }: S): boolean => what === 'range';
  return [
    {
      ask: async (page, answers) => ({
        ...answers,
        what: await page.pick<S['what']>({
          placeholder,
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
