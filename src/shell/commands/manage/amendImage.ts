import type { FormatOptions } from '../../../protocol/manage';
import { tellInformation } from '../../messages';
import { amendOptions, type OptionSpec } from './formatOptions';
import { follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { chooseWritable, type WritableSubject } from './subject';
import { reviewStep } from './review';
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
    amendOptions({ ...present, ...options }).map((spec) => ({ ...spec, standard: present[spec.name] ?? spec.standard }));
  const operationOf = (answers: Amendment): Operation<'amend'> => ({
    method: 'amend',
    params: { path: subject.path, format: subject.format, options: changed(specsOf(answers), answers.options) },
    title: `Amending ${subject.name}`,
    withoutLocks: subject.withoutLocks,
  });
  const answers = await runWizard<Amendment>(`Amend ${subject.name}`, { options: {} }, [
    reviewStep<Amendment>({
      action: () => `Amend ${subject.name}`,
      summary: (current) => {
        const names = Object.entries(changed(specsOf(current), current.options)).map(([name, value]) => `${name}=${value}`);
        return names.length === 0 ? 'nothing is changed yet' : names.join(', ');
      },
      operation: operationOf,
      specs: specsOf,
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
  await perform(parts, operation);
  await follow(parts, subject.path);
  tellDone(`${subject.name} is amended.`, operation);
}

/** The options as they are, by qemu-img's names. */
async function presentOptions({ engine }: ManageParts, { path, format }: WritableSubject): Promise<FormatOptions> {
  const session = await engine.openSession({ path, format });
  try {
    const { facts } = await session.call('overview', null);
    const fact = (name: string): string | undefined => facts.find((one) => one.name === name)?.value;
    const found = { compat: fact('compat'), refcount_bits: fact('refcount bits'), lazy_refcounts: onOff(fact('lazy refcounts')) };
    return Object.fromEntries(Object.entries(found).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
  } finally {
    session.close();
  }
}

function onOff(value: string | undefined): string | undefined {
  return value === undefined ? undefined : value === 'true' ? 'on' : 'off';
}

function changed(specs: readonly OptionSpec[], options: FormatOptions): FormatOptions {
  return Object.fromEntries(
    specs.flatMap(({ name, standard }) => {
      const value = options[name];
      return value === undefined || value === standard ? [] : [[name, value]];
    }),
  );
}
