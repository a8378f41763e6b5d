import type { FormatOptions } from '../../../protocol/manage';
import { tellInformation } from '../../messages';
import { formatBytes } from '../../text/bytes';
import { plainText } from '../../text/plain';
import { parseBytes, qemuSize } from '../../text/sizes';
import { realPathOf } from '../../trust/realPath';
import { amendOptions, saidOptions, type OptionSpec } from './formatOptions';
import { recordedName, sizeOnPage } from './newImages';
import { askBefore, defaultFolder, follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { reviewStep, type ReviewRow } from './review';
import { chooseWritable, dependentNames, listed, type WritableSubject } from './subject';
import { runWizard } from './wizard';

interface Amendment {
  readonly options: FormatOptions;
}

/** *Amend…*: changes options of a qcow2 image that was made with others. */
export async function amendImage(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2']);
  if (subject === null) {
    return;
  }
  const present = await presentOptions(parts, subject);
  const specsOf = ({ options }: Amendment): readonly OptionSpec[] =>
    amendOptions({ ...present, ...options })
      .filter(({ name }) => name !== 'data_file_raw' || present[name] === 'on')
      .map((spec) => ({ ...spec, standard: present[spec.name] ?? spec.standard }));
  const said = (answers: Amendment): FormatOptions => ({
    ...saidOptions(specsOf(answers), answers.options),
    ...changedPlainly(present, answers.options),
  });
  const operationOf = (answers: Amendment): Operation<'amend'> => ({
    method: 'amend',
    params: { path: subject.path, format: subject.format, options: said(answers) },
    title: `Amending ${subject.name}`,
    withoutLocks: subject.withoutLocks,
  });
  const answers = await runWizard<Amendment>(`Amend ${subject.name}`, { options: {} }, [
    reviewStep<Amendment>({
      action: () => `Amend ${subject.name}`,
      summary: (current) => {
        const names = Object.entries(said(current)).map(([name, value]) => `${name}=${value}`);
        return names.length === 0 ? 'nothing is changed yet' : names.join(', ');
      },
      operation: operationOf,
      specs: specsOf,
      extras: (current) => [sizeRow(present, current), ...dataFileRow(subject, present, current)],
      standard: 'as it is',
    }),
  ]);
  if (answers === null) {
    return;
  }
  const operation = operationOf(answers);
  if (Object.keys(operation.params.options).length === 0) {
    void tellInformation(`${subject.name} stays as it is: no option was changed.`);
    return;
  }
  if (!(await mayAmend(parts, subject, present, operation))) {
    return;
  }
  await perform(parts, operation);
  await follow(parts, subject.path);
  tellDone(`${subject.name} is amended.`, operation);
}

/** The options as they are, by qemu-img's names. */
async function presentOptions({ engine }: ManageParts, { path, format, summary }: WritableSubject): Promise<FormatOptions> {
  const session = await engine.openSession({ path, format });
  try {
    const { facts } = await session.call('overview', null);
    const fact = (name: string): string | undefined => facts.find((one) => one.name === name)?.value;
    const found = {
      compat: fact('compat'),
      refcount_bits: fact('refcount bits'),
      lazy_refcounts: onOff(fact('lazy refcounts')),
      size: qemuSize(summary.virtualSize),
      data_file: fact('data file'),
      data_file_raw: onOff(fact('data file raw')),
    };
    return Object.fromEntries(Object.entries(found).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
  } finally {
    session.close();
  }
}

function sizeRow(present: FormatOptions, { options }: Amendment): ReviewRow<Amendment> {
  const size = options['size'] ?? present['size'] ?? '0';
  return {
    label: 'Size',
    value: `${formatBytes(parseBytes(size) ?? 0)}${size === present['size'] ? ' (as it is)' : ''}`,
    meaning: 'Size of the disk that the guest sees',
    change: async (page, answers) => {
      const bytes = await sizeOnPage(page, parseBytes(size) ?? 0);
      return { ...answers, options: { ...answers.options, size: qemuSize(bytes) } };
    },
  };
}

/** Only an image that keeps its data in another file can be told of another one. */
function dataFileRow(subject: WritableSubject, present: FormatOptions, { options }: Amendment): readonly ReviewRow<Amendment>[] {
  const before = present['data_file'];
  if (before === undefined) {
    return [];
  }
  const name = options['data_file'] ?? before;
  return [
    {
      label: 'Data file',
      value: `${plainText(name)}${name === before ? ' (as it is)' : ''}`,
      meaning: 'For a data file that was moved or renamed; only its name is written',
      change: async (page, answers) => {
        const file = await page.openFile({ openLabel: 'Use as Data File', defaultUri: defaultFolder(subject.path) });
        const real = await realPathOf(subject.path);
        return { ...answers, options: { ...answers.options, data_file: recordedName(real, await realPathOf(file), true) } };
      },
    },
  ];
}

/** What cannot be taken back is said first. */
async function mayAmend(
  parts: ManageParts,
  subject: WritableSubject,
  present: FormatOptions,
  operation: Operation<'amend'>,
): Promise<boolean> {
  const { size, data_file: dataFile } = operation.params.options;
  const from = subject.summary.virtualSize;
  const to = size === undefined ? from : (parseBytes(size) ?? from);
  if (to >= from && dataFile === undefined) {
    return true;
  }
  const dependents = await dependentNames(parts, subject.path);
  return askBefore(
    `Amend ${subject.name}?`,
    [
      ...(to < from
        ? [
            `What the guest has in the last ${formatBytes(from - to)} of ${formatBytes(from)} is deleted and cannot be brought back. Shrink the file systems and partitions in the guest first.`,
          ]
        : []),
      ...(dataFile === undefined
        ? []
        : [
            `Its data file: ${plainText(present['data_file'] ?? '', 400)} → ${plainText(dataFile, 400)}`,
            'Unless that file holds what the old one held, the disk is garbled.',
          ]),
      ...(dependents.length === 0 ? [] : ['These images build on it and read what it reads then:', listed(dependents)]),
    ],
    'Amend',
    operation,
  );
}

/** Of the options that are no choice of a few values, those that are to be other than they are. */
function changedPlainly(present: FormatOptions, options: FormatOptions): FormatOptions {
  return Object.fromEntries(
    ['size', 'data_file'].flatMap((name) => {
      const value = options[name];
      return value === undefined || value === present[name] ? [] : [[name, value]];
    }),
  );
}

function onOff(value: string | undefined): string | undefined {
  return value === undefined ? undefined : value === 'true' ? 'on' : 'off';
}
