import type { FormatOptions, PreallocationMode } from '../../../protocol/manage';
import { formatBytes, formatBytesExactly } from '../../text/bytes';
import { explainSize, parseNewSize, qemuSize } from '../../text/sizes';
import { createOptions } from './formatOptions';
import { askBefore, follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { reviewStep } from './review';
import { chooseWritable, dependentNames, listed, type WritableSubject } from './subject';
import { runWizard, type FieldRemark, type Step } from './wizard';

interface Resize {
  readonly size: number;
  readonly options: FormatOptions;
}

/** *Resize…*: grows a disk, or shrinks it when the person agrees to what that cuts off. */
export async function resizeImage(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed', 'raw']);
  if (subject === null) {
    return;
  }
  const from = subject.summary.virtualSize;
  const askSize: Step<Resize> = {
    ask: async (page, answers) => {
      const value = await page.text({
        prompt: `New size of the disk, or a change of it (+10G); now it is ${formatBytesExactly(from)}`,
        placeholder: '20G',
        value: qemuSize(answers.size),
        check: (text) => remarkOn(text, from),
      });
      return { ...answers, size: parseNewSize(value, from) ?? answers.size };
    },
  };
  const review = reviewStep<Resize>({
    action: ({ size }) => `Grow ${subject.name} to ${formatBytes(size)}`,
    summary: ({ size }) => `${formatBytes(size - from)} more`,
    operation: (answers) => operationOf(subject, answers),
    specs: ({ options }) =>
      subject.format === 'qed' ? [] : createOptions(subject.format === 'raw' ? 'raw' : 'qcow2', options, false).filter(isPreallocation),
  });
  const answers = await runWizard<Resize>(`Resize ${subject.name}`, { size: from, options: {} }, [
    askSize,
    { ...review, when: ({ size }) => size > from },
  ]);
  if (answers === null || (answers.size < from && !(await mayShrink(parts, subject, answers)))) {
    return;
  }
  const operation = operationOf(subject, answers);
  await perform(parts, operation);
  await follow(parts, subject.path);
  tellDone(`${subject.name} is now ${formatBytes(answers.size)}.`, operation);
}

function remarkOn(text: string, from: number): FieldRemark {
  const size = parseNewSize(text, from);
  if (size === from) {
    return { message: 'That is the size it has.', isError: true };
  }
  if (size === null || size === 0) {
    return size === 0 ? { message: 'Nothing would be left of it.', isError: true } : explainSize(text, null);
  }
  const { message } = explainSize(text, size);
  return { message: size < from ? `${message}: cuts off the last ${formatBytes(from - size)}` : message, isError: false };
}

async function mayShrink(parts: ManageParts, subject: WritableSubject, answers: Resize): Promise<boolean> {
  const from = subject.summary.virtualSize;
  const dependents = await dependentNames(parts, subject.path);
  return askBefore(
    `Shrink ${subject.name} to ${formatBytes(answers.size)}?`,
    [
      `What the guest has in the last ${formatBytes(from - answers.size)} of ${formatBytes(from)} is deleted and cannot be brought back. Shrink the file systems and partitions in the guest first.`,
      ...(dependents.length === 0 ? [] : ['These images build on it and would read zeroes there:', listed(dependents)]),
    ],
    'Shrink',
    operationOf(subject, answers),
  );
}

function operationOf(subject: WritableSubject, { size, options }: Resize): Operation<'resize'> {
  const { path, format, name, summary, withoutLocks } = subject;
  const growing = size > summary.virtualSize;
  return {
    method: 'resize',
    params: { path, format, size, shrink: !growing, preallocation: growing ? preallocationOf(options) : 'off' },
    title: `Resizing ${name}`,
    withoutLocks,
  };
}

function preallocationOf(options: FormatOptions): PreallocationMode {
  const mode = options['preallocation'];
  return mode === 'metadata' || mode === 'falloc' || mode === 'full' ? mode : 'off';
}

function isPreallocation({ name }: { readonly name: string }): boolean {
  return name === 'preallocation';
}
