/*
 * The only door to @vscode/webview-ui-toolkit. Upstream is archived; the day it is replaced, this file is. Not taken: its panels and badges,
 * which write style attributes, since the page's content security policy forbids those; its dropdown, whose list is cut off at the edge of a
 * small panel as the browser's own is not.
 */
import { endFocusVisibleTest } from './focus-visible';
import { provideVSCodeDesignSystem, TextField, vsCodeButton, vsCodeProgressRing, vsCodeTextField } from '@vscode/webview-ui-toolkit';

endFocusVisibleTest();

/** A text field calls itself "Text field" when it is connected, whatever it was called before: its own name is given back to it. */
function keepFieldNames(): void {
  const connected: (this: TextField) => void = Reflect.get(TextField.prototype, 'connectedCallback');
  TextField.prototype.connectedCallback = function (this: TextField): void {
    const name = this.getAttribute('aria-label');
    connected.call(this);
    if (name !== null) {
      this.setAttribute('aria-label', name);
    }
  };
}

/** Defines `vscode-button`, `vscode-progress-ring` and `vscode-text-field`. */
export function registerToolkit(): void {
  keepFieldNames();
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
