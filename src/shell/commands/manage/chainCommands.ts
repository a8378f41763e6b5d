import * as path from 'node:path';

import type { ChainLink } from '../../../protocol/chain';
import { tellError, tellInformation } from '../../messages';
import { labelText, plainText } from '../../text/plain';
import { describeUsage } from '../../chains/wording';
import { realPathOf } from '../../trust/realPath';
import { backingAsItIs, backingLinks, newBackingStep, type NewBacking } from './newBackingFile';
import { askBefore, follow, perform, tellDone, type Operation } from './operations';
import type { ManageParts } from './parts';
import { chooseWritable, dependentNames, listed, type WritableSubject } from './subject';
import { runWizard, type Step } from './wizard';

interface Rebase extends NewBacking {
  readonly unsafe: boolean;
}

/** *Rebase…*: gives an overlay another backing file. */
export async function rebaseImage(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed']);
  if (subject === null) {
    return;
  }
  const askMode: Step<Rebase> = {
    ask: async (page, answers) => ({
      ...answers,
      unsafe: await page.pick({
        placeholder: 'What happens to the data',
        choices: [
          {
            label: 'Keep what the guest reads',
            detail: 'Copies what the two backing files have different into the image first.',
            value: false,
          },
          {
            label: 'Only write the name',
            detail: 'For a backing file that was moved or renamed; the data is not looked at (-u).',
            value: true,
          },
        ],
        current: answers.unsafe,
      }),
    }),
  };
  const initial: Rebase = { ...backingAsItIs(subject), unsafe: false };
  const answers = await runWizard(`Rebase ${subject.name}`, initial, [newBackingStep<Rebase>(parts, subject), askMode]);
  if (answers === null) {
    return;
  }
  const operation = rebaseOperation(subject, answers);
  const [question, detail] = await rebasePreview(parts, subject, answers);
  if (await askBefore(question, detail, 'Rebase', operation)) {
    await perform(parts, operation);
    await follow(parts, subject.path);
    tellDone(
      `${subject.name} ${answers.chosen === null ? 'has no backing file any more' : `now builds on ${plainText(answers.chosen.name)}`}.`,
      operation,
    );
  }
}

/** *Commit…*: writes what an overlay holds into an image below it. */
export async function commitImage(parts: ManageParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed']);
  if (subject === null) {
    return;
  }
  const bases = backingLinks(subject).filter(({ state, path: file }) => state.kind === 'open' && file !== null);
  const [nearest] = bases;
  if (nearest === undefined) {
    void tellInformation(`${subject.name} has no backing file that is open.`);
    return;
  }
  const target =
    bases.length === 1
      ? nearest
      : await runWizard<ChainLink>(`Commit ${subject.name}`, nearest, [
          {
            ask: (page, current) =>
              page.pick({
                placeholder: 'The image that takes up what lies above it',
                choices: bases.map((link, index) => ({
                  label: labelText(path.basename(link.path ?? link.recordedName)),
                  description: index === 0 ? 'its backing file' : `${index} ${index === 1 ? 'image' : 'images'} between`,
                  value: link,
                })),
                current,
              }),
          },
        ]);
  if (target?.path === null || target === null || !mayBeWritten(target)) {
    return;
  }
  const targetName = plainText(path.basename(target.path));
  const between = bases.slice(0, bases.indexOf(target)).flatMap(({ path: file }) => (file === null ? [] : [file]));
  // What builds on the image itself reads the same afterwards, as the image does.
  const above = await dependentNames(parts, subject.path);
  const own = new Set([subject.path, await realPathOf(subject.path), ...between, ...above]);
  const others = (await dependentNames(parts, target.path)).filter((file) => !own.has(file));
  const keepTop = target !== nearest || others.length > 0;
  const operation: Operation<'commit'> = {
    method: 'commit',
    params: { path: subject.path, format: subject.format, base: target === nearest ? null : target.path, keepTop },
    title: `Committing ${subject.name} into ${targetName}`,
    withoutLocks: subject.withoutLocks,
  };
  const agreed = await askBefore(
    `Commit ${subject.name} into ${targetName}?`,
    [
      `${plainText(target.path, 400)} is changed: it takes up what ${subject.name}${between.length === 0 ? '' : ' and the images between'} hold${between.length === 0 ? 's' : ''}.`,
      keepTop
        ? `${subject.name} keeps its data and reads the same.`
        : `${subject.name} is emptied and reads the same through its backing file.`,
      ...(between.length === 0 ? [] : ['These lie between the two and are worthless afterwards:', listed(between)]),
      ...(others.length === 0 ? [] : [`These build on ${targetName} too and would break:`, listed(others)]),
    ],
    'Commit',
    operation,
  );
  if (agreed) {
    await perform(parts, operation);
    await follow(parts, subject.path, target.path);
    tellDone(`${subject.name} is committed into ${targetName}.`, operation);
  }
}

function mayBeWritten({ path: file, image }: ChainLink): boolean {
  const name = plainText(path.basename(file ?? ''));
  if (image?.readOnly === true) {
    void tellError(`${name} may not be written: its file is read-only.`);
    return false;
  }
  if (image?.usage.inUse === true) {
    void tellError(`${name} is ${describeUsage(image.usage)}. End that first: two writers would damage the image.`);
    return false;
  }
  return true;
}

function rebaseOperation({ path: file, format, name, withoutLocks }: WritableSubject, { chosen, unsafe }: Rebase): Operation<'rebase'> {
  return { method: 'rebase', params: { path: file, format, backing: chosen, unsafe }, title: `Rebasing ${name}`, withoutLocks };
}

async function rebasePreview(parts: ManageParts, subject: WritableSubject, { chosen, unsafe }: Rebase): Promise<[string, string[]]> {
  const before = subject.summary.backingName;
  const dependents = await dependentNames(parts, subject.path);
  const from = before === null ? 'no backing file' : plainText(before, 400);
  const to = chosen === null ? 'no backing file' : plainText(chosen.name, 400);
  return [
    `Rebase ${subject.name}?`,
    [
      `Its backing file: ${from} → ${to}`,
      unsafe
        ? 'Only the name is written. Unless the new backing file reads exactly as the old one, the disk is garbled.'
        : 'The guest reads the same afterwards; where the two backing files differ, data is copied into the image, which grows.',
      ...(unsafe && dependents.length > 0 ? ['These images build on it and would be garbled with it:', listed(dependents)] : []),
    ],
  ];
}
