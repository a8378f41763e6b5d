import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { CheckReport } from '../../src/protocol/check';
import { COMMANDS } from '../commands';
import { copyButton } from '../components/copy-menu';
import { cssProperties } from '../components/css-properties';
import { icon } from '../components/icons';
import { emptyState } from '../components/panel-states';
import { base } from '../components/styles';
import { send } from '../events';
import { asJson } from '../format/copies';
import { counted, grouped, hex, percent, size } from '../format/numbers';
import { shellQuoted, visible } from '../format/text';
import { fieldOf } from '../toolkit';
import { KIND_TITLES } from './kinds';
import './findings-list';

/** What the page knows of the check of this image. */
export interface CheckState {
  readonly report: CheckReport | null;
  /** The file changed since that report was made. */
  readonly outdated: boolean;
  /** 0 to 1 while a check runs. */
  readonly fraction: number | null;
  /** Why the last check ended without a report. */
  readonly message: string | null;
}

export const UNCHECKED: CheckState = { report: null, outdated: false, fraction: null, message: null };

/** Runs the check and shows what it found. */
export class CheckTab extends LitElement {
  static override properties = { state: { attribute: false }, filter: { state: true } };

  declare state: CheckState;
  declare private filter: string;

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        flex-direction: column;
        height: 100%;
      }

      .toolbar {
        padding: 8px 12px;
      }

      vscode-text-field {
        flex: 0 1 220px;
        margin-inline-start: auto;
      }

      .progress {
        height: 2px;
        background: linear-gradient(var(--vscode-progressBar-background), var(--vscode-progressBar-background)) no-repeat;
        background-size: var(--done) 100%;
      }

      .verdict {
        display: flex;
        align-items: center;
        gap: 8px;
        padding: 8px 16px;
        font-weight: 600;
        border-top: 1px solid var(--cs-line);
      }

      .verdict .fine {
        color: var(--vscode-testing-iconPassed, var(--vscode-charts-green));
      }

      .grow {
        flex: 1;
      }

      .counts {
        display: flex;
        flex-wrap: wrap;
        gap: 4px 28px;
        padding: 0 16px 10px 40px;
      }

      .counts div {
        display: flex;
        gap: 6px;
      }

      .counts dt {
        color: var(--vscode-descriptionForeground);
      }

      .counts dd {
        font-variant-numeric: tabular-nums;
      }

      .note {
        display: flex;
        align-items: center;
        gap: 6px;
        padding: 4px 16px;
      }

      findings-list {
        flex: 1;
        min-height: 0;
      }
    `,
  ];

  constructor() {
    super();
    this.state = UNCHECKED;
    this.filter = '';
  }

  protected override render(): TemplateResult {
    const { report, fraction, message, outdated } = this.state;
    const running = fraction !== null;
    return html`<div class="toolbar" role="toolbar" aria-label="Check">
        ${
          running
            ? html`<vscode-button appearance="secondary" @click=${() => send(this, 'cs-command', COMMANDS.cancelCheck)}>
                Cancel Check
              </vscode-button>`
            : html`<vscode-button @click=${() => send(this, 'cs-command', COMMANDS.check)}>Check Image</vscode-button>
                <vscode-button
                  appearance="secondary"
                  title="Also decompresses every compressed cluster"
                  @click=${() => send(this, 'cs-command', COMMANDS.checkDeep)}
                >
                  Deep Check
                </vscode-button>`
        }
        ${
          report !== null && report.findings.length > 0
            ? html`<vscode-text-field
                aria-label="Filter findings"
                placeholder="Filter"
                @input=${(event: Event) => (this.filter = fieldOf(event).value)}
              ></vscode-text-field>`
            : nothing
        }
      </div>
      ${
        running
          ? html`<div
                class="progress"
                role="progressbar"
                aria-label="Check"
                aria-valuemin="0"
                aria-valuemax="100"
                aria-valuenow=${Math.round(fraction * 100)}
                ${cssProperties({ '--done': `${fraction * 100}%` })}
              ></div>
              <div class="note muted">Checking… ${percent(fraction, 1)}</div>`
          : nothing
      }
      ${message === null ? nothing : html`<div class="note" role="status"><span class="severity-warning">${icon('warning')}</span>${visible(message)}</div>`}
      ${
        outdated && report !== null
          ? html`<div class="note" role="status">
              <span class="severity-info">${icon('info')}</span>The file changed since it was checked; findings may be out of date.
            </div>`
          : nothing
      }
      ${report === null ? (running ? nothing : this.renderUnchecked()) : this.renderReport(report)}`;
  }

  private renderUnchecked(): TemplateResult {
    return emptyState(
      'pass',
      'This image has not been checked yet.',
      'A check compares every reference with the refcounts, as qemu-img check does, and looks for damage that it does not find. Nothing is written.',
    );
  }

  private renderReport(report: CheckReport): TemplateResult {
    return html`<div class="verdict" role="status">
        ${renderVerdict(report)}<span class="grow"></span>${copyButton({
          what: 'report',
          text: () => reportAsText(report),
          hex: null,
          json: () => asJson(report),
          commands: [`qemu-img check --output=json ${shellQuoted(report.path)}`],
        })}
      </div>
      <dl class="counts" aria-label="Counts as qemu-img check has them">
        ${countsOf(report).map(
          ([name, value]) =>
            html`<div>
              <dt>${name}</dt>
              <dd>${value}</dd>
            </div>`,
        )}
      </dl>
      ${report.kinds.some(({ count }) => count > 0) ? html`<findings-list .report=${report} .filter=${this.filter}></findings-list>` : nothing}`;
  }
}

function renderVerdict(report: CheckReport): TemplateResult {
  if (report.failure !== null) {
    return html`<span class="severity-error">${icon('error')}</span
      ><span>The check could not be completed: ${visible(report.failure)}.</span>`;
  }
  const { corruptions, leaks, checkErrors } = report.counts;
  const extra = extrasOf(report);
  const parts = [
    ...(corruptions > 0 ? [counted(corruptions, 'corruption')] : []),
    ...(checkErrors > 0 ? [counted(checkErrors, 'check error')] : []),
    ...(leaks > 0 ? [counted(leaks, 'leaked cluster')] : []),
    ...(extra > 0 ? [`${counted(extra, 'finding')} beyond qemu-img`] : []),
  ];
  if (parts.length === 0) {
    return html`<span class="fine">${icon('pass')}</span><span>No errors were found.</span>`;
  }
  const severe = corruptions + checkErrors > 0;
  return html`<span class=${severe ? 'severity-error' : 'severity-warning'}>${icon(severe ? 'error' : 'warning')}</span
    ><span>${parts.join(', ')}</span>`;
}

function extrasOf(report: CheckReport): number {
  return report.kinds.filter(({ category }) => category === 'extra').reduce((sum, { count }) => sum + count, 0);
}

function countsOf({ counts, exitCode, strictExitCode, deep, elapsedMs }: CheckReport): readonly (readonly [string, string])[] {
  const { totalClusters, allocatedClusters, fragmentedClusters, compressedClusters, imageEndOffset } = counts;
  return [
    ['Corruptions', grouped(counts.corruptions)],
    ['Leaks', grouped(counts.leaks)],
    ['Check errors', grouped(counts.checkErrors)],
    ['Allocated', `${grouped(allocatedClusters)} of ${grouped(totalClusters)} clusters, ${percent(allocatedClusters, totalClusters)}`],
    ['Fragmented', percent(fragmentedClusters, allocatedClusters)],
    ['Compressed', percent(compressedClusters, allocatedClusters)],
    ['Image end', `${hex(imageEndOffset)} (${size(imageEndOffset)})`],
    ['Exit code', strictExitCode === exitCode ? String(exitCode) : `${String(exitCode)}, strict ${String(strictExitCode)}`],
    [deep ? 'Deep check' : 'Check', elapsedMs < 1000 ? `${String(Math.round(elapsedMs))} ms` : `${(elapsedMs / 1000).toFixed(1)} s`],
  ];
}

function reportAsText(report: CheckReport): string {
  const counts = countsOf(report).map(([name, value]) => `${name}: ${value}`);
  const kinds = report.kinds.filter(({ count }) => count > 0).map(({ kind, count }) => `${KIND_TITLES[kind]}: ${grouped(count)}`);
  const findings = report.findings.map(({ message }) => `- ${message}`);
  return `${report.path}\n${[...counts, ...kinds, ...findings].join('\n')}\n`;
}

customElements.define('check-tab', CheckTab);
