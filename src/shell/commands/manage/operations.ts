import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ImageFormat } from '../../../protocol/chain';
import type { ManageMethod, ManageRequests } from '../../../protocol/manage';
import { messageOf } from '../../errors';
import { askWhich, tellInformation } from '../../messages';
import { SlowProgress } from '../slowProgress';
import type { ManageParts } from './parts';
import { Speed } from './speed';
import { qemuImgCommand } from './qemuImg';

export const COPY_COMMAND = 'Copy as qemu-img Command';

/** An operation as it is asked of the engine. */
export interface Operation<M extends ManageMethod = ManageMethod> {
  readonly method: M;
  readonly params: ManageRequests[M]['params'];
  /** What happens, while it does: "Resizing disk.qcow2". */
  readonly title: string;
  readonly withoutLocks?: boolean;
}

/** Operations that report how many bytes of the disk are done. */
const COUNTS_BYTES: ReadonlySet<ManageMethod> = new Set(['convert', 'rebase', 'commit', 'compare']);

/** Does it, with progress and a way to cancel when it takes long; asks for passphrases that it needs. @throws CallError */
export async function perform<M extends ManageMethod>(parts: ManageParts, operation: Operation<M>): Promise<ManageRequests[M]['result']> {
  const { log, passphrases } = parts;
  const command = qemuImgCommand(operation.method, operation.params, process.platform);
  try {
    const result = await passphrases.unlocking(() => attempt(parts, operation));
    log.info(`Done, as: ${command}`);
    return result;
  } catch (error) {
    log.info(`Not done (${messageOf(error)}), as: ${command}`);
    throw error;
  }
}

async function attempt<M extends ManageMethod>(
  { engine }: ManageParts,
  { method, params, title, withoutLocks = false }: Operation<M>,
): Promise<ManageRequests[M]['result']> {
  const cancellation = new AbortController();
  const progress = new SlowProgress();
  const speed = new Speed();
  const work = engine.manage(method, params, {
    withoutLocks,
    signal: cancellation.signal,
    onProgress: ({ done, total }) => {
      if (COUNTS_BYTES.has(method)) {
        progress.describe(speed.at(performance.now(), done));
      }
      progress.advance(total > 0 ? Math.min(done / total, 1) : 0);
    },
  });
  await progress.showWhenSlow(work, title, () => cancellation.abort());
  return work;
}

/** Says that it is done; the person may take the command along. */
export function tellDone<M extends ManageMethod>(message: string, { method, params }: Operation<M>, tell = tellInformation): void {
  void (async () => {
    if ((await tell(message, COPY_COMMAND)) === COPY_COMMAND) {
      await copyCommand(method, params);
    }
  })();
}

export async function copyCommand<M extends ManageMethod>(method: M, params: ManageRequests[M]['params']): Promise<void> {
  await vscode.env.clipboard.writeText(qemuImgCommand(method, params, process.platform));
  vscode.window.setStatusBarMessage('$(copy) Copied the qemu-img command', 3_000);
}

/** Asks before something that cannot be taken back. `detail`: what happens to which images, a paragraph each. */
export async function askBefore<M extends ManageMethod>(
  question: string,
  detail: readonly string[],
  action: string,
  { method, params }: Operation<M>,
): Promise<boolean> {
  const answer = await askWhich(question, detail, action, COPY_COMMAND);
  if (answer === COPY_COMMAND) {
    await copyCommand(method, params);
  }
  return answer === action;
}

/** Lets the view show what became of images. */
export async function follow({ view }: ManageParts, ...files: readonly string[]): Promise<void> {
  await view.reread(files);
}

/** Lets the view show a new image, also one that it would not find by itself. */
export async function showNew({ view, added }: ManageParts, file: string, format: ImageFormat): Promise<void> {
  const found = format !== 'raw' && vscode.workspace.getWorkspaceFolder(vscode.Uri.file(file)) !== undefined;
  if (!found) {
    await added.add({ path: file, format });
  }
  await view.refresh();
  await view.reveal(file);
}

/** The folder where a new file most likely goes. */
export function defaultFolder(beside?: string): vscode.Uri {
  const [folder] = vscode.workspace.workspaceFolders ?? [];
  return beside === undefined ? (folder?.uri ?? vscode.Uri.file(process.cwd())) : vscode.Uri.file(path.dirname(beside));
}
