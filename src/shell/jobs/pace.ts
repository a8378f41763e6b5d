import type { JobPace, JobSettings } from '../../protocol/jobs';
import type { Step } from '../commands/manage/wizard';
import { idleGraceMs, systemPressure } from '../settings';
import { formatBytes } from '../text/bytes';
import { parseSpeed, speedField } from './speed';

/** How a job is to work beside its guest, as a wizard asks for it. */
export interface PaceAnswers {
  readonly kind: 'full' | 'idle' | 'limited';
  /** Bytes per second; 0 is no limit. */
  readonly speed: number;
}

export const DEFAULT_PACE: PaceAnswers = { kind: 'full', speed: 0 };

const SUGGESTED_SPEED = 50 * 1024 ** 2;

/** The pages that ask for it. */
export function paceSteps<S extends { readonly pace: PaceAnswers }>(): readonly Step<S>[] {
  return [
    {
      ask: async (page, answers) => {
        const kind = await page.pick<PaceAnswers['kind']>({
          placeholder: 'How fast it may work beside a guest',
          choices: [
            { label: 'Full speed', description: 'default', detail: 'The guest goes first wherever the two meet.', value: 'full' },
            { label: 'While the guest is idle', detail: idleDetail(), value: 'idle' },
            { label: 'At most…', detail: 'So many bytes per second; this can be changed while it runs.', value: 'limited' },
          ],
          current: answers.pace.kind,
        });
        return { ...answers, pace: { ...answers.pace, kind } };
      },
    },
    {
      when: ({ pace }) => pace.kind === 'limited',
      ask: async (page, answers) => {
        const { pace } = answers;
        const text = await page.text(speedField(pace.speed === 0 ? SUGGESTED_SPEED : pace.speed));
        return { ...answers, pace: { ...pace, speed: parseSpeed(text) ?? 0 } };
      },
    },
  ];
}

/** A job that stays in the list until the person has seen what came of it. */
export function jobSettings({ kind, speed }: PaceAnswers): JobSettings {
  const pace: JobPace = kind === 'idle' ? { kind, graceMs: idleGraceMs(), systemPressure: systemPressure() } : { kind: 'full' };
  return { speed: kind === 'limited' ? speed : 0, onError: 'enospc', autoFinalize: true, autoDismiss: false, pace };
}

/** One sentence for the preview. */
export function describePace({ kind, speed }: PaceAnswers): string {
  switch (kind) {
    case 'full':
      return 'It works at full speed; guests can go on meanwhile.';
    case 'idle':
      return `It works while the guest asks for nothing for ${idleGraceMs()} ms.`;
    case 'limited':
      return speed === 0 ? 'It works at full speed; guests can go on meanwhile.' : `It copies at most ${formatBytes(speed)}/s.`;
  }
}

function idleDetail(): string {
  const pressure = systemPressure();
  const system = pressure === null ? '' : `, and while programs wait for I/O for less than ${Math.round(pressure * 100)} % of the time`;
  return `After the guest has asked for nothing for ${idleGraceMs()} ms${system}.`;
}
