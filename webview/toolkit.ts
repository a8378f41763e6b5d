/*
 * The only door to @vscode/webview-ui-toolkit. Upstream is archived; the day it is replaced, this file is. Its panels are not taken: they
 * place their tabs by style attributes, which the page's content security policy forbids.
 */
import { endFocusVisibleTest } from './focus-visible';
import {
  provideVSCodeDesignSystem,
  vsCodeBadge,
  vsCodeButton,
  vsCodeCheckbox,
  vsCodeProgressRing,
  vsCodeTextField,
} from '@vscode/webview-ui-toolkit';

endFocusVisibleTest();

/** Defines `vscode-badge`, `vscode-button`, `vscode-checkbox`, `vscode-progress-ring` and `vscode-text-field`. */
export function registerToolkit(): void {
  provideVSCodeDesignSystem().register(vsCodeBadge(), vsCodeButton(), vsCodeCheckbox(), vsCodeProgressRing(), vsCodeTextField());
}

/** What the page uses of a `vscode-text-field`. */
export interface TextFieldElement extends HTMLElement {
  value: string;
  select(): void;
}

/** What the page uses of a `vscode-checkbox`. */
export interface CheckboxElement extends HTMLElement {
  checked: boolean;
}

/** The text field that an event comes from. */
export function fieldOf(event: Event): TextFieldElement {
  return event.currentTarget as TextFieldElement;
}
