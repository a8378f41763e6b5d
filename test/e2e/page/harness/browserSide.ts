/* What runs in the page before its own script: the webview API that VS Code would give it. */

interface HarnessWindow {
  chainscopeSend(text: string): Promise<void>;
  chainscopeDeliver(text: string): Promise<void>;
  chainscopeViolations: string[];
  chainscopeState(): unknown;
  acquireVsCodeApi(): { postMessage(message: unknown): void; getState(): unknown; setState(state: unknown): void };
}

export interface PageTheme {
  readonly bodyClass: string;
  readonly themeKind: string;
  readonly variables: Readonly<Record<string, string>>;
}

/** Puts `acquireVsCodeApi` there. A message is delivered when the page has it. Serialised into the page: it uses nothing from outside. */
export function installVsCodeApi(savedState: unknown): void {
  const page = window as unknown as HarnessWindow;
  // Newer than the library that the project is compiled against, and much faster than atob.
  const bytesOf = Uint8Array as unknown as { fromBase64(text: string): Uint8Array<ArrayBuffer> };
  const pack = (message: unknown) =>
    JSON.stringify(message, (_, value: unknown) => {
      if (value instanceof Uint8Array) {
        return { $array: 'Uint8Array', base64: btoa(Array.from(value, (byte) => String.fromCharCode(byte)).join('')) };
      }
      return value;
    });
  const unpack = (text: string): unknown =>
    JSON.parse(text, (_, value: unknown) => {
      if (typeof value === 'object' && value !== null && '$array' in value && 'base64' in value) {
        const bytes = bytesOf.fromBase64(String(value.base64));
        return value.$array === 'Uint8Array' ? bytes : new Uint16Array(bytes.buffer);
      }
      return value;
    });
  let state = savedState;
  page.chainscopeViolations = [];
  document.addEventListener('securitypolicyviolation', (event) => {
    page.chainscopeViolations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
  });
  let posted = 0;
  let arrived = 0;
  const whenArrived = new Map<number, () => void>();
  window.addEventListener('message', ({ source }) => {
    if (source === window) {
      arrived++;
      whenArrived.get(arrived)?.();
      whenArrived.delete(arrived);
    }
  });
  page.chainscopeDeliver = (text) =>
    new Promise((resolve) => {
      posted++;
      whenArrived.set(posted, resolve);
      window.postMessage(unpack(text), '*');
    });
  page.chainscopeState = () => state;
  page.acquireVsCodeApi = () => ({
    postMessage: (message) => void page.chainscopeSend(pack(message)),
    getState: () => state,
    setState: (next) => (state = next),
  });
}

/** Dresses the page as VS Code does: the theme's variables on the root, its kind as a class of the body. Serialised into the page. */
export function applyTheme({ bodyClass, themeKind, variables }: PageTheme): void {
  const dress = () => {
    const root = document.documentElement;
    for (const name of Array.from(root.style)) {
      if (name.startsWith('--vscode-')) {
        root.style.removeProperty(name);
      }
    }
    for (const [name, value] of Object.entries(variables)) {
      root.style.setProperty(name, value);
    }
    document.body.className = bodyClass;
    document.body.dataset['vscodeThemeKind'] = themeKind;
  };
  // Before the page's own script, which is a module and waits for the document, but not before there is a body.
  if (document.readyState === 'loading') {
    document.addEventListener('readystatechange', dress, { once: true });
  } else {
    dress();
  }
}
