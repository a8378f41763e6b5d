import { plainText } from '../text/plain';

/** What the page may load: its own script by nonce, its own style sheets, nothing else; no inline script or style, no network. */
export function contentSecurityPolicy(nonce: string, cspSource: string): string {
  return [
    `default-src 'none'`,
    `script-src 'nonce-${nonce}'`,
    `style-src ${cspSource}`,
    `font-src ${cspSource}`,
    `img-src ${cspSource}`,
    `base-uri 'none'`,
    `form-action 'none'`,
  ].join('; ');
}

export interface PageParts {
  readonly nonce: string;
  readonly cspSource: string;
  readonly script: string;
  readonly styleSheet: string;
  /** The image's file name. */
  readonly title: string;
}

/** The page of the editor; all it shows its script puts there. */
export function editorPage({ nonce, cspSource, script, styleSheet, title }: PageParts): string {
  return page({
    policy: contentSecurityPolicy(nonce, cspSource),
    title,
    head: `<link rel="stylesheet" href="${escapeHtml(styleSheet)}">\n<script type="module" nonce="${nonce}" src="${escapeHtml(script)}"></script>`,
    body: '',
  });
}

export interface FailurePage {
  readonly title: string;
  readonly message: string;
  readonly remedy: string | null;
  /** Whether the file is looked at again when it changes. */
  readonly retried: boolean;
}

/** The page for an image that could not be opened: no script, no style. */
export function failurePage({ title, message, remedy, retried }: FailurePage): string {
  return page({
    policy: `default-src 'none'`,
    title,
    head: '',
    body: [
      `<main>`,
      `<h1>${escapeHtml(plainText(title))}</h1>`,
      `<p role="alert">${escapeHtml(plainText(message, 1000))}</p>`,
      ...(remedy === null ? [] : [`<p>${escapeHtml(plainText(remedy, 1000))}</p>`]),
      ...(retried ? [`<p>It is looked at again when the file changes.</p>`] : []),
      `</main>`,
    ].join('\n'),
  });
}

function page({ policy, title, head, body }: { policy: string; title: string; head: string; body: string }): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${escapeHtml(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(plainText(title))}</title>
${head}
</head>
<body>
${body}
</body>
</html>
`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text for an element's content or a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
