import * as path from 'node:path';

import type { ChainLink } from '../../protocol/chain';
import { chooseWritable } from '../commands/manage/subject';
import { runWizard, type Choice, type Step } from '../commands/manage/wizard';
import { tellInformation } from '../messages';
import { labelText, plainText } from '../text/plain';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';

interface Commit {
  /** What is committed, with the images between it and the base; the first of the chain is the active layer. */
  readonly top: ChainLink;
  readonly base: ChainLink;
  readonly pace: PaceAnswers;
}

/**
 * *Commit with Running Guest…*: a job that writes what an image, and those between, hold into one below, while a guest goes on. A commit of
 * the active layer waits to be completed, and the guest then goes on in the base.
 */
export async function commitRunning(parts: JobParts, argument: unknown): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed', 'raw']);
  if (subject === null) {
    return;
  }
  const chain = subject.links.filter(
    ({ role, state, path: file }) => role !== 'data-file' && role !== 'extent' && state.kind === 'open' && file !== null,
  );
  const [active, nearest] = chain;
  if (active === undefined || nearest === undefined) {
    void tellInformation(`${subject.name} has no backing file that is open.`);
    return;
  }
  const askTop: Step<Commit> = {
    ask: async (page, answers) => {
      const top = await page.pick({
        placeholder: 'What is committed',
        choices: chain.slice(0, -1).map((link, depth) => choiceOf(link, depth === 0 ? 'the active layer' : 'below the active layer')),
        current: answers.top,
      });
      return { ...answers, top, base: chain[chain.indexOf(top) + 1]! };
    },
  };
  const askBase: Step<Commit> = {
    when: ({ top }) => chain.indexOf(top) < chain.length - 2,
    ask: async (page, answers) => ({
      ...answers,
      base: await page.pick({
        placeholder: `The image that takes up what ${nameOf(answers.top)} holds`,
        choices: chain
          .slice(chain.indexOf(answers.top) + 1)
          .map((link, between) =>
            choiceOf(link, between === 0 ? 'its backing file' : `${between} ${between === 1 ? 'image' : 'images'} between`),
          ),
        current: answers.base,
      }),
    }),
  };
  const initial: Commit = { top: active, base: nearest, pace: DEFAULT_PACE };
  const steps: readonly Step<Commit>[] = [...(chain.length > 2 ? [askTop, askBase] : []), ...paceSteps<Commit>()];
  const answers = await runWizard<Commit>(`Commit ${subject.name}`, initial, steps);
  if (answers === null) {
    return;
  }
  const { top, base, pace } = answers;
  const isActive = top === active;
  await offerJob(parts, {
    subject,
    request: {
      type: 'commit',
      image: { path: subject.path, format: subject.format },
      top: isActive ? null : top.path,
      base: base.path,
    },
    settings: jobSettings(pace),
    question: `Commit ${nameOf(top)} into ${nameOf(base)}?`,
    action: 'Commit',
    remarks: [
      isActive
        ? `When everything is copied it waits until you complete it; from then on the guest writes into ${nameOf(base)}.`
        : 'The guest reads the same at every moment.',
      describePace(pace),
    ],
  });
}

function choiceOf(link: ChainLink, description: string): Choice<ChainLink> {
  return { label: labelText(nameOf(link)), description, value: link };
}

function nameOf({ path: file, recordedName }: ChainLink): string {
  return plainText(path.basename(file ?? recordedName), 80);
}
