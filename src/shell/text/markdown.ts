import { plainText } from './plain';

/** Every ASCII character that Markdown (with GitHub's tables and bare links) may take for markup; a backslash makes each literal. */
const MARKUP = /[!-/:-@[-`{-~]/g;

/** Text that shows in Markdown exactly as it is: no emphasis, link, image, HTML, table cell or icon can come out of it. */
export function escapeMarkdown(text: string): string {
  // Entities rather than backslashes for what begins HTML and entities, since these are looked for by other rules too.
  return plainText(text, 1024).replace(MARKUP, (character) => {
    switch (character) {
      case '<':
        return '&lt;';
      case '>':
        return '&gt;';
      case '&':
        return '&amp;';
      default:
        return `\\${character}`;
    }
  });
}
