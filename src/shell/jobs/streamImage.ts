import * as path from 'node:path';

import type { ChainLink } from '../../protocol/chain';
import { chooseWritable, type WritableSubject } from '../commands/manage/subject';
import { runWizard, type Step } from '../commands/manage/wizard';
import { tellInformation } from '../messages';
import { labelText, plainText } from '../text/plain';
import { offerJob, type JobParts } from './offerJob';
import { DEFAULT_PACE, describePace, jobSettings, paceSteps, type PaceAnswers } from './pace';

interface Stream {
  /** The image that stays below; null: none. */
  readonly base: ChainLink | null;
  readonly pace: PaceAnswers;
}

/** *Stream…*: copies into an overlay what images below it hold, so that it does not need them any more. */
export async function streamImage(parts: JobParts, argument: unknown): Promise<void> {
  await stream(parts, argument, false);
}

/** *Flatten…*: the same down to the lowest image: it stands alone afterwards. */
export async function flattenImage(parts: JobParts, argument: unknown): Promise<void> {
  await stream(parts, argument, true);
}

async function stream(parts: JobParts, argument: unknown, flat: boolean): Promise<void> {
  const subject = await chooseWritable(parts, argument, ['qcow2', 'qed']);
  if (subject === null) {
    return;
  }
  const below = subject.links.filter(({ role }) => role === 'backing');
  if (below.length === 0) {
    void tellInformation(`${subject.name} has no backing file: it holds all of its disk itself already.`);
    return;
  }
  const verb = flat ? 'Flatten' : 'Stream';
  const steps: readonly Step<Stream>[] = [...(flat || below.length === 1 ? [] : [baseStep(below)]), ...paceSteps<Stream>()];
  const answers = await runWizard<Stream>(`${verb} ${subject.name}`, { base: null, pace: DEFAULT_PACE }, steps);
  if (answers !== null) {
    const { base, pace } = answers;
    await offerJob(parts, {
      subject,
      request: {
        type: 'stream',
        image: { path: subject.path, format: subject.format },
        base: base?.path ?? null,
        bottom: null,
        range: null,
      },
      settings: jobSettings(pace),
      question: `${verb} ${subject.name}?`,
      action: verb,
      remarks: [copied(subject, below, base), describePace(pace)],
    });
  }
}

/** Copying only what the backing file itself lacks comes to nothing, so the nearest that can stay is the one below it. */
function baseStep(below: readonly ChainLink[]): Step<Stream> {
  return {
    ask: async (page, answers) => ({
      ...answers,
      base: await page.pick<ChainLink | null>({
        placeholder: 'What stays below it',
        choices: [
          { label: 'Nothing', description: 'default', detail: 'It holds all of its disk itself afterwards.', value: null },
          ...below.slice(1).map((link, index) => ({
            label: labelText(nameOf(link)),
            description: index === 0 ? 'its backing file is left out' : `${index + 1} images are left out`,
            value: link,
          })),
        ],
        current: answers.base,
      }),
    }),
  };
}

function copied({ name }: WritableSubject, below: readonly ChainLink[], base: ChainLink | null): string {
  const between = below.slice(0, base === null ? below.length : below.indexOf(base)).map(nameOf);
  return `${between.join(', ')} ${between.length === 1 ? 'stays' : 'stay'} as ${between.length === 1 ? 'it is' : 'they are'}; ${name} does not need ${between.length === 1 ? 'it' : 'them'} any more. The guest reads the same at every moment, also if it is cancelled.`;
}

function nameOf({ path: file, recordedName }: ChainLink): string {
  return plainText(path.basename(file ?? recordedName), 80);
}
