/*
 * Names come out of image files and file systems and may hold anything. What is shown in one line of text must stay one line and read in
 * the order it is written.
 */

/** Control characters, line and paragraph separators, marks that turn the reading direction or join invisibly, lone surrogates. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

/** Longer names are cut in the middle, where both what they are called and how they end stay readable. */
const MAX_LENGTH = 160;

/** A name as it may stand in a row, a message or a dialog: what cannot be seen is spelt out (`\u{202e}`), and overlong text is cut. */
export function plainText(text: string, maxLength = MAX_LENGTH): string {
  const short = shorten(text, maxLength);
  return short.replace(INVISIBLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/**
 * A notification's text. VS Code makes links of `[text](command:…)` in it, and runs the command when one is clicked; a file may be called
 * like that.
 */
export function messageText(text: string): string {
  return plainText(text, 2_000).replaceAll('](', '] (');
}

/** A label of a quick pick or the status bar, in which VS Code draws icons for `$(name)`. */
export function labelText(text: string): string {
  return plainText(text).replaceAll('$(', '$ (');
}

function shorten(text: string, maxLength: number): string {
  if (text.length <= maxLength) {
    return text;
  }
  const half = Math.floor((maxLength - 1) / 2);
  return `${text.slice(0, half)}…${text.slice(-half)}`;
}
