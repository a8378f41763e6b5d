/*
 * The only door to @vscode/webview-ui-toolkit. Upstream is archived; the day it is replaced, this file is. Not taken: its panels and badges,
 * which write style attributes, since the page's content security policy forbids those; its dropdown, whose list is cut off at the edge of a
 * small panel as the browser's own is not.
 */
import { endFocusVisibleTest } from './focus-visible';
import { provideVSCodeDesignSystem, vsCodeButton, vsCodeProgressRing, vsCodeTextField } from '@vscode/webview-ui-toolkit';

endFocusVisibleTest();

/** Defines `vscode-button`, `vscode-progress-ring` and `vscode-text-field`. */
export function registerToolkit(): void {
  provideVSCodeDesignSystem().register(vsCodeButton(), vsCodeProgressRing(), vsCodeTextField());
}

/** What the page uses of a `vscode-text-field`. */
export interface TextFieldElement extends HTMLElement {
  value: string;
  select(): void;
}

/** The text field that an event comes from. */
export function fieldOf(event: Event): TextFieldElement {
  return event.currentTarget as TextFieldElement;
}
