/** The four kinds of theme that an extension must look right in: VS Code's name for one of each, and the class that it puts on the window. */
export const THEMES = {
  light: { name: 'Light Modern', kind: 'vs' },
  dark: { name: 'Dark Modern', kind: 'vs-dark' },
  'high-contrast-dark': { name: 'Dark High Contrast', kind: 'hc-black' },
  'high-contrast-light': { name: 'Light High Contrast', kind: 'hc-light' },
} as const;

export type ThemeKind = keyof typeof THEMES;
