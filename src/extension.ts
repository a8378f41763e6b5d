import * as vscode from 'vscode';

import { AddedImages } from './shell/chains/addedImages';
import { ChainModel } from './shell/chains/chainModel';
import { ChainView } from './shell/chains/chainView';
import { Expansion } from './shell/chains/expansion';
import { AccessCommands } from './shell/commands/access';
import { Checks } from './shell/commands/check';
import { ImageCommands } from './shell/commands/images';
import type { ManageCommand } from './shell/commands/manage/commands';
import { registerCommand } from './shell/commands/register';
import { createSampleImages } from './shell/commands/sample';
import { Targets } from './shell/commands/targets';
import { Deaths } from './shell/deaths';
import { ImageEditors } from './shell/editor/imageEditors';
import { ExportsView } from './shell/exports/exportsView';
import { followServers } from './shell/exports/followServers';
import type { JobCommand } from './shell/jobs/commands';
import { Jobs } from './shell/jobs/jobs';
import { JobsView } from './shell/jobs/jobsView';
import { Passphrases } from './shell/passphrases';
import { Problems } from './shell/problems/problems';
import { plainText } from './shell/text/plain';
import { DecisionStore } from './shell/trust/decisionStore';
import { Gate } from './shell/trust/gate';
import { WorkspaceFolders } from './shell/trust/workspaceFolders';
import { EngineClient } from './worker/client';
import { tellError, tellWarning } from './shell/messages';

/** What the extension gives to others, its own tests among them. */
export interface ChainscopeApi {
  /** The view *Chains*. */
  readonly chains: Pick<ChainView, 'ready' | 'reveal' | 'selection' | 'provider'>;
  readonly engine: Pick<EngineClient, 'isRunning'>;
  /** The view *Jobs*. */
  readonly jobs: Pick<JobsView, 'entries' | 'getChildren' | 'getTreeItem' | 'onDidChangeTreeData'>;
  /** The view *NBD Exports*. */
  readonly exports: Pick<ExportsView, 'exports' | 'getChildren' | 'getTreeItem' | 'onDidChangeTreeData'>;
}

/** The engine of this window, from activation on. */
let engineOfWindow: EngineClient | null = null;

/** VS Code waits for it: what is served ends, and images are closed. */
export async function deactivate(): Promise<void> {
  await engineOfWindow?.dispose();
}

/** Wires the parts together. Nothing is read and no worker started before the view is shown, an image opened or a command run. */
export function activate(context: vscode.ExtensionContext): ChainscopeApi {
  const log = keep(vscode.window.createOutputChannel('Chainscope', { log: true }));
  const folders = keep(new WorkspaceFolders());
  const gate = keep(new Gate(folders, new DecisionStore(context.workspaceState)));
  const engine = new EngineClient({
    workerPath: context.asAbsolutePath('dist/worker.js'),
    answerGate: (question) => gate.answer(question),
    onOutput: (text) => log.info(`Engine: ${text}`),
  });
  engineOfWindow = engine;
  const added = new AddedImages(context.workspaceState);
  const model = keep(new ChainModel({ engine, folders, added, log }));
  const view = keep(new ChainView(model, folders, new Expansion(context.workspaceState)));
  const jobs = keep(new Jobs(engine, context.workspaceState));
  const jobsView = keep(new JobsView(jobs));
  const exportsView = keep(new ExportsView(engine));
  const problems = keep(new Problems());
  const editors = keep(new ImageEditors({ engine, folders, extensionUri: context.extensionUri, log }));

  const passphrases = new Passphrases(engine);
  const targets = new Targets({ model, view, editors, folders });
  const checks = new Checks({ engine, editors, problems, log });
  const access = new AccessCommands({ engine, gate, targets });
  const images = new ImageCommands({ engine, model, view, added, editors, folders, targets });

  keep(editors.onDidCheck(({ path, report }) => checks.show(path, report)));
  keep(vscode.workspace.onDidGrantWorkspaceTrust(() => void editors.reopen()));
  keep(
    gate.onDidChange(() => {
      void view.reread();
      void editors.reopen();
    }),
  );
  const deaths = new Deaths();
  keep(
    engine.onDidDie(({ reason }) => {
      log.error(reason);
      if (deaths.add()) {
        void tellError(`${reason} It ended several times in a minute; one of the images may be the cause. The log may say more.`);
      } else {
        void tellError(`${reason} What was open is opened again; the log may say more.`);
        void view.reread();
      }
    }),
  );

  keep(
    engine.onDidFailCache(({ filename, reason }) => {
      log.warn(`The cache image ${filename} does not grow any more: ${reason}`);
      void tellWarning(`The cache image ${plainText(filename, 200)} does not grow any more: ${plainText(reason, 400)}`);
    }),
  );

  keep(followServers(engine, view));

  const exportCommands = () => import('./shell/exports/exportCommands');
  const manageParts = { engine, model, view, added, folders, gate, targets, passphrases, log };
  const jobParts = { ...manageParts, jobs, jobsView };
  const commands: Readonly<Record<string, (argument: unknown) => unknown>> = {
    addBitmap: manage('addBitmap'),
    addImage: (argument) => images.add(argument),
    allocateImage: job('allocateImage'),
    trimImage: job('trimImage'),
    amendImage: manage('amendImage'),
    applySnapshot: manage('applySnapshot'),
    cancelCheck: (argument) => onFile(argument, (file) => checks.cancel(file)),
    cancelJob: job('cancelJob'),
    checkImage: (argument) => onFile(argument, (file) => checks.run(file, false)),
    checkImageDeep: (argument) => onFile(argument, (file) => checks.run(file, true)),
    clearBitmap: manage('clearBitmap'),
    commitImage: manage('commitImage'),
    commitRunning: job('commitRunning'),
    completeJob: job('completeJob'),
    compareImages: manage('compareImages'),
    convertImage: manage('convertImage'),
    copyAsQemuImg: (argument) => images.copyAsQemuImg(argument),
    copyExportUri: async (argument) => (await exportCommands()).copyExportUri(exportsView, argument),
    copyPath: (argument) => images.copyPath(argument),
    createSampleImages: () => createSampleImages(engine),
    createSnapshot: manage('createSnapshot'),
    deleteSnapshot: manage('deleteSnapshot'),
    disableBitmap: manage('disableBitmap'),
    dismissEndedJobs: job('dismissEndedJobs'),
    dismissJob: job('dismissJob'),
    enableBitmap: manage('enableBitmap'),
    flattenImage: job('flattenImage'),
    forgetPassphrases: () => passphrases.forget(),
    goToAddress: () => images.goToAddress(),
    grantAccess: (argument) => access.grant(argument),
    locateMissing: (argument) => access.locate(argument),
    manageGrants: () => access.manage(),
    measureImage: manage('measureImage'),
    mergeBitmap: manage('mergeBitmap'),
    mirrorImage: job('mirrorImage'),
    newCacheImage: manage('newCacheImage'),
    newImage: manage('newImage'),
    newOverlay: manage('newOverlay'),
    openImage: (argument) => images.open(argument),
    pauseJob: job('pauseJob'),
    rebaseImage: manage('rebaseImage'),
    rebaseRunning: job('rebaseRunning'),
    refresh: async () => {
      await Promise.all([view.refresh(), editors.reopen(({ state }) => state.kind === 'failed')]);
    },
    removeBitmap: manage('removeBitmap'),
    removeImage: (argument) => images.remove(argument),
    resizeImage: manage('resizeImage'),
    restartEngine: async () => {
      await engine.restart();
      await Promise.all([editors.reopen(), view.reread()]);
    },
    resumeJob: job('resumeJob'),
    retryJob: job('retryJob'),
    revealFile: (argument) => images.revealFile(argument),
    revealInChains: (argument) => images.reveal(argument),
    setJobSpeed: job('setJobSpeed'),
    showLog: () => log.show(),
    showOverlays: (argument) => images.showOverlays(argument),
    startExport: async (argument) => (await exportCommands()).startExport(manageParts, argument),
    stopExport: async (argument) => (await exportCommands()).stopExport(manageParts, exportsView, argument),
    streamImage: job('streamImage'),
    tryAgain: (argument) => images.tryAgain(argument),
    turnOffCopyOnRead: async (argument) => (await exportCommands()).switchCopyOnRead(manageParts, exportsView, argument, false),
    turnOnCopyOnRead: async (argument) => (await exportCommands()).switchCopyOnRead(manageParts, exportsView, argument, true),
    unlockImage: (argument) =>
      onFile(argument, async (file) => (await import('./shell/commands/unlock')).unlockImage({ editors, passphrases }, file)),
  };
  for (const [name, run] of Object.entries(commands)) {
    keep(registerCommand(`chainscope.${name}`, log, run));
  }

  return { chains: view, engine, exports: exportsView, jobs: jobsView };

  function keep<T extends vscode.Disposable>(disposable: T): T {
    context.subscriptions.push(disposable);
    return disposable;
  }

  /** Commands that make and change images are loaded when the first of them is run. */
  function manage(name: ManageCommand): (argument: unknown) => Promise<void> {
    return async (argument) => {
      const { MANAGE_COMMANDS } = await import('./shell/commands/manage/commands');
      await MANAGE_COMMANDS[name](manageParts, argument);
    };
  }

  /** The same for those that start jobs and are about them. */
  function job(name: JobCommand): (argument: unknown) => Promise<void> {
    return async (argument) => {
      const { JOB_COMMANDS } = await import('./shell/jobs/commands');
      await JOB_COMMANDS[name](jobParts, argument);
    };
  }

  async function onFile<T>(argument: unknown, run: (file: string) => T | Promise<T>): Promise<T | null> {
    const file = await targets.file(argument);
    return file === null ? null : run(file);
  }
}
