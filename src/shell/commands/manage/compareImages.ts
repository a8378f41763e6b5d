import * as path from 'node:path';

import type { ImageReference } from '../../../protocol/manage';
import { fileOf } from '../../chains/forest';
import { rowOf } from '../../chains/rows';
import { tellInformation, tellWarning } from '../../messages';
import { labelText, plainText } from '../../text/plain';
import { copyCommand, COPY_COMMAND, defaultFolder, perform, type Operation } from './operations';
import type { ManageParts } from './parts';
import { chooseSubject, describeSubject, type Subject } from './subject';
import { runWizard, type Choice } from './wizard';

interface Comparison {
  readonly second: string;
  readonly strict: boolean;
}

/** *Compare With…*: whether a guest would read the same from two images. */
export async function compareImages(parts: ManageParts, argument: unknown): Promise<void> {
  const first = await chooseSubject(parts, argument);
  if (first === null) {
    return;
  }
  const others = await otherImages(parts, first);
  const answers = await runWizard<Comparison>(`Compare ${first.name} With`, { second: '', strict: false }, [
    {
      ask: async (page, known) => {
        const chosen = await page.pick<string>({
          placeholder: 'Choose the other image',
          choices: [...others, { label: '$(folder-opened) Another file…', value: '' }],
          current: known.second,
        });
        return {
          ...known,
          second: chosen === '' ? await page.openFile({ openLabel: 'Compare', defaultUri: defaultFolder(first.path) }) : chosen,
        };
      },
    },
    {
      ask: async (page, known) => ({
        ...known,
        strict: await page.pick({
          placeholder: 'What has to be the same',
          choices: [
            { label: 'What the guest reads', description: 'a longer disk may end in zeroes', value: false },
            { label: 'Size and allocation too', description: 'strict (-s)', value: true },
          ],
          current: known.strict,
        }),
      }),
    },
  ]);
  const second = answers === null ? null : await describeSubject(parts, answers.second);
  if (answers === null || second === null) {
    return;
  }
  const operation: Operation<'compare'> = {
    method: 'compare',
    params: { first: referenceOf(first), second: referenceOf(second), strict: answers.strict },
    title: `Comparing ${first.name} with ${second.name}`,
  };
  const { identical, summary } = await perform(parts, operation);
  const message = `${first.name} and ${second.name}: ${summary}`;
  if ((await (identical ? tellInformation : tellWarning)(message, COPY_COMMAND)) === COPY_COMMAND) {
    await copyCommand(operation.method, operation.params);
  }
}

function referenceOf({ path: file, format }: Subject): ImageReference {
  return { path: file, format };
}

/** The images of the view, those of the first one's own chain first. */
async function otherImages({ view, model, folders }: ManageParts, first: Subject): Promise<readonly Choice<string>[]> {
  await view.ready();
  const own = new Set(first.links.map((link) => link.path));
  const choices = new Map<string, Choice<string>>();
  for (const node of model.forest.roots.flatMap((root) => [root, ...root.children])) {
    const file = fileOf(node);
    if (node.kind === 'image' && node.link.state.kind === 'open' && file !== null) {
      const spelt = await folders.toSpelt(file);
      const row = rowOf(node);
      if (spelt !== first.path) {
        choices.set(spelt, {
          label: labelText(row.label),
          description: row.description,
          detail: plainText(path.dirname(spelt)),
          value: spelt,
        });
      }
    }
  }
  const isOwn = ({ value }: Choice<string>): number => (own.has(value) ? 0 : 1);
  return [...choices.values()].sort((a, b) => isOwn(a) - isOwn(b));
}
