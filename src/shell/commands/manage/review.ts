import type { FormatOptions } from '../../../protocol/manage';
import { plainText } from '../../text/plain';
import type { OptionSpec } from './formatOptions';
import { copyCommand, COPY_COMMAND, type Operation } from './operations';
import { qemuImgCommand } from './qemuImg';
import type { Choice, Page, Step } from './wizard';

/** The last page of a wizard: what is about to happen, what of it can still be changed, and the same as a command line. */
export interface Review<S extends { readonly options: FormatOptions }> {
  /** "Create disk.qcow2". */
  readonly action: (answers: S) => string;
  /** What that comes to, in a few words. */
  readonly summary: (answers: S) => string;
  readonly operation: (answers: S) => Operation;
  /** Options of the format that can be said here. */
  readonly specs?: (answers: S) => readonly OptionSpec[];
  /** What is said of an option that is left alone: "default". */
  readonly standard?: string;
  readonly extras?: (answers: S) => readonly ReviewRow<S>[];
}

/** Something else that can still be changed. */
export interface ReviewRow<S> {
  readonly label: string;
  readonly value: string;
  readonly meaning?: string;
  readonly change: (page: Page, answers: S) => Promise<S>;
}

type Answer<S> = 'run' | 'copy' | ReviewRow<S>;

export function reviewStep<S extends { readonly options: FormatOptions }>(review: Review<S>): Step<S> {
  return {
    async ask(page, initial) {
      let answers = initial;
      for (;;) {
        const answer: Answer<S> = await page.pick(fieldOf(review, answers));
        if (answer === 'run') {
          return answers;
        }
        if (answer === 'copy') {
          const { method, params } = review.operation(answers);
          await copyCommand(method, params);
        } else {
          const before = answers;
          answers = (await page.below(answer.label, (below) => answer.change(below, before))) ?? before;
        }
      }
    },
  };
}

function fieldOf<S extends { readonly options: FormatOptions }>(
  review: Review<S>,
  answers: S,
): { placeholder: string; choices: readonly Choice<Answer<S>>[] } {
  const operation: Operation = review.operation(answers);
  const rows = [
    ...(review.extras?.(answers) ?? []),
    ...(review.specs?.(answers) ?? []).map((spec) => optionRow<S>(spec, answers, review.standard ?? 'default')),
  ];
  const choices: Choice<Answer<S>>[] = [
    { label: `$(check) ${review.action(answers)}`, description: review.summary(answers), value: 'run' },
    {
      label: `$(copy) ${COPY_COMMAND}`,
      detail: plainText(qemuImgCommand(operation.method, operation.params, process.platform), 1_000),
      value: 'copy',
    },
    ...rows.map((row, index) => ({
      label: row.label,
      description: row.value,
      value: row,
      ...(row.meaning === undefined ? {} : { detail: row.meaning }),
      ...(index === 0 ? { group: 'Options' } : {}),
    })),
  ];
  return { placeholder: rows.length === 0 ? 'Press Enter to go on' : 'Press Enter to go on, or choose an option to change it', choices };
}

function optionRow<S extends { readonly options: FormatOptions }>(spec: OptionSpec, { options }: S, left: string): ReviewRow<S> {
  const { name, label, meaning, values, standard } = spec;
  const current = options[name] ?? standard;
  const shown = values.find(({ value }) => value === current)?.label ?? current;
  return {
    label,
    value: current === standard ? `${shown} (${left})` : shown,
    meaning,
    async change(page, answers) {
      const value = await page.pick({
        placeholder: meaning,
        choices: values.map((choice) => ({
          label: choice.label,
          ...(choice.value === standard ? { description: left } : {}),
          ...(choice.meaning === undefined ? {} : { detail: choice.meaning }),
          value: choice.value,
        })),
        current,
      });
      return { ...answers, options: { ...answers.options, [name]: value } };
    },
  };
}
