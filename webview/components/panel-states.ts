import { html, nothing, type TemplateResult } from 'lit';
import type { Progress } from '../../src/protocol/engine';
import { percent } from '../format/numbers';
import { visible } from '../format/text';
import type { Problem } from '../problem';
import type { Loader } from '../state/loader';
import { icon, type IconName } from './icons';
import './state-box';

/* What a panel shows while it has nothing else: it waits, it failed, it was stopped, there is nothing. */

export function loadingState(what: string, progress: Progress | null, cancel: (() => void) | null): TemplateResult {
  return html`<state-box>
    <vscode-progress-ring slot="icon" aria-label=${what}></vscode-progress-ring>
    <span>${what}${progress === null || progress.total <= 0 ? '' : ` ${percent(progress.done, progress.total)}`}</span>
    ${cancel === null ? nothing : html`<vscode-button slot="actions" appearance="secondary" @click=${cancel}>Cancel</vscode-button>`}
  </state-box>`;
}

export function problemState(problem: Problem, retry: (() => void) | null): TemplateResult {
  return html`<state-box role="alert" tone="error">
    <span slot="icon">${icon('error')}</span>
    <span>${visible(problem.message)}</span>
    ${problem.remedy === null ? nothing : html`<span slot="detail">${visible(problem.remedy)}</span>`}
    ${retry === null ? nothing : html`<vscode-button slot="actions" appearance="secondary" @click=${retry}>Try Again</vscode-button>`}
  </state-box>`;
}

export function emptyState(name: IconName, message: string, detail: string | null = null): TemplateResult {
  return html`<state-box>
    <span slot="icon">${icon(name)}</span>
    <span>${message}</span>
    ${detail === null ? nothing : html`<span slot="detail">${detail}</span>`}
  </state-box>`;
}

/** What stands in for a loader's answer as long as there is none; null when there is one to show. */
export function insteadOf<T>(loader: Loader<T>, what: string): TemplateResult | null {
  if (loader.problem !== null) {
    return problemState(loader.problem, () => void loader.retry());
  }
  if (loader.cancelled) {
    return html`<state-box>
      <span slot="icon">${icon('stop')}</span>
      <span>Stopped: ${what}</span>
      <vscode-button slot="actions" appearance="secondary" @click=${() => void loader.retry()}>Run Again</vscode-button>
    </state-box>`;
  }
  return loader.value === null ? loadingState(what, loader.progress, loader.loading ? () => loader.cancel() : null) : null;
}
