import * as vscode from 'vscode';

import type { CheckReport } from '../../protocol/check';
import type { Place } from '../../protocol/place';
import type { EditorTab, ViewState } from '../../protocol/webview';
import { plainError } from '../../protocol/imageClient';
import type { EngineClient } from '../../worker/client';
import { DisposableStore, type Disposable } from '../lifecycle';
import { realPathOf } from '../trust/realPath';
import type { WorkspaceFolders } from '../trust/workspaceFolders';
import { ImageDocument } from './document';
import { ImagePlace } from './imagePlace';
import type { ImagePanel, PanelHost } from './imagePanel';

/** The same editor twice: VS Code opens some images in it by default, and offers it for others. */
const DEFAULT_EDITOR = 'chainscope.image';
const OFFERED_EDITOR = 'chainscope.otherImage';

/** Commands that a page may have run on its image. */
const PAGE_COMMANDS: ReadonlySet<string> = new Set([
  'chainscope.cancelCheck',
  'chainscope.checkImage',
  'chainscope.checkImageDeep',
  'chainscope.copyAsQemuImg',
  'chainscope.forgetPassphrases',
  'chainscope.goToAddress',
  'chainscope.grantAccess',
  'chainscope.locateMissing',
  'chainscope.manageGrants',
  'chainscope.refresh',
  'chainscope.revealInChains',
  'chainscope.showLog',
  'chainscope.showOverlays',
  'chainscope.unlockImage',
]);

interface EditorParts {
  readonly engine: EngineClient;
  readonly folders: WorkspaceFolders;
  readonly extensionUri: vscode.Uri;
  readonly log: vscode.LogOutputChannel;
}

/** The custom editor *Disk Image*, and all its open documents and panels. */
export class ImageEditors implements vscode.CustomReadonlyEditorProvider<ImageDocument>, Disposable {
  private readonly parts: EditorParts;
  private readonly disposables = new DisposableStore();
  private readonly documents = new Set<ImageDocument>();
  private readonly panels = new Set<ImagePanel>();
  /** What an editor that is about to open is to show, by path. */
  private readonly awaited = new Map<string, ViewState>();
  private readonly checkedInPage = this.disposables.add(new vscode.EventEmitter<{ path: string; report: CheckReport }>());
  /** A check that somebody started in a page has ended. */
  readonly onDidCheck = this.checkedInPage.event;
  private readonly host: PanelHost;

  constructor(parts: EditorParts) {
    this.parts = parts;
    this.host = {
      extensionUri: parts.extensionUri,
      log: parts.log,
      openFile: (document, file, place) => this.openFromPage(document, file, place),
      runCommand: (document, command, place) => runFromPage(document, command, place),
      checked: (document, report) => {
        this.showReport(document.path, report);
        this.checkedInPage.fire({ path: document.path, report });
      },
    };
    for (const viewType of [DEFAULT_EDITOR, OFFERED_EDITOR]) {
      this.disposables.add(vscode.window.registerCustomEditorProvider(viewType, this, { supportsMultipleEditorsPerDocument: true }));
    }
  }

  /**
   * Path of the image whose editor is in front; null when it is another kind of editor. The tab says so at once: its panel comes a moment
   * later, and until then the one before still says that it is active.
   */
  get activePath(): string | null {
    const input = vscode.window.tabGroups.activeTabGroup.activeTab?.input;
    const isOurs = input instanceof vscode.TabInputCustom && [DEFAULT_EDITOR, OFFERED_EDITOR].includes(input.viewType);
    return isOurs ? input.uri.fsPath : null;
  }

  openCustomDocument(uri: vscode.Uri): ImageDocument {
    const document = new ImageDocument(uri, this.parts.engine);
    this.documents.add(document);
    document.onDidDispose(() => this.documents.delete(document));
    return document;
  }

  async resolveCustomEditor(document: ImageDocument, webviewPanel: vscode.WebviewPanel): Promise<void> {
    // Most windows show no image; what talks to a page is not loaded before one does.
    const { ImagePanel } = await import('./imagePanel');
    const panel = new ImagePanel(webviewPanel, document, this.host);
    this.panels.add(panel);
    webviewPanel.onDidDispose(() => {
      this.panels.delete(panel);
      panel.dispose();
    });
    const state = this.awaited.get(document.path);
    if (state !== undefined) {
      this.awaited.delete(document.path);
      panel.show(state);
    }
  }

  /** Opens an image, or brings its editor to the front, and goes to a place in it. */
  async open(file: string, state: ViewState | null = null): Promise<void> {
    if (state !== null) {
      this.awaited.set(file, state);
    }
    try {
      await vscode.commands.executeCommand('vscode.openWith', vscode.Uri.file(file), editorFor(file));
      if (state !== null && this.awaited.has(file)) {
        // No new panel took it: the editor was open before.
        this.panelOf(file)?.show(state);
      }
    } finally {
      this.awaited.delete(file);
    }
  }

  /** The open document of an image, for using its session. */
  documentOf(file: string): ImageDocument | undefined {
    return [...this.documents].find((document) => document.path === file);
  }

  /** Goes to a place in the editor that is in front. */
  showInActive(state: ViewState): void {
    const path = this.activePath;
    if (path !== null) {
      this.panelOf(path)?.show(state);
    }
  }

  showReport(file: string, report: CheckReport): void {
    for (const panel of this.panelsOf(file)) {
      panel.showReport(report);
    }
  }

  showCheckProgress(file: string, fraction: number | null, message: string | null): void {
    for (const panel of this.panelsOf(file)) {
      panel.showCheckProgress(fraction, message);
    }
  }

  /** Opens what is open anew, since what images name may now be opened or may no longer. */
  async reopen(concerns: (document: ImageDocument) => boolean = () => true): Promise<void> {
    await Promise.all([...this.documents].filter(concerns).map((document) => document.reopen()));
  }

  dispose(): void {
    this.disposables.dispose();
    for (const panel of this.panels) {
      panel.dispose();
    }
    for (const document of this.documents) {
      document.dispose();
    }
  }

  private panelOf(file: string): ImagePanel | undefined {
    const panels = this.panelsOf(file);
    return panels.find((panel) => panel.isActive) ?? panels[0];
  }

  private panelsOf(file: string): ImagePanel[] {
    return [...this.panels].filter((panel) => panel.document.path === file);
  }

  /** A page is fed by image files and may be led astray by one; it gets files of its own chain opened and no others. */
  private async openFromPage(document: ImageDocument, file: string, place: Place | null): Promise<void> {
    const { chain } = await document.opened();
    if (!chain.links.some((link) => link.path === file && link.state.kind === 'open')) {
      throw plainError('request.invalid', `'${file}' is no open file of this chain.`);
    }
    await this.open(await this.parts.folders.toSpelt(await realPathOf(file)), place === null ? null : { tab: tabFor(place), place });
  }
}

function editorFor(file: string): string {
  return /\.(qcow2?|qed)$/i.test(file) ? DEFAULT_EDITOR : OFFERED_EDITOR;
}

async function runFromPage(document: ImageDocument, command: string, place: Place | null): Promise<void> {
  if (!PAGE_COMMANDS.has(command)) {
    throw plainError('request.invalid', `The editor may not run the command '${command}'.`);
  }
  await vscode.commands.executeCommand(command, place === null ? document.uri : new ImagePlace(document.uri, place));
}

/** The tab where a place is at home. */
export function tabFor(place: Place): EditorTab {
  switch (place.kind) {
    case 'host':
      return 'hex';
    case 'guest':
      return 'map';
    case 'tableRow':
      return 'tables';
    case 'snapshot':
    case 'bitmap':
      return 'snapshots';
    case 'file':
      return 'overview';
  }
}
