import type * as vscode from 'vscode';

import type { AddedImages } from '../../chains/addedImages';
import type { ChainModel } from '../../chains/chainModel';
import type { ChainView } from '../../chains/chainView';
import type { Gate } from '../../trust/gate';
import type { WorkspaceFolders } from '../../trust/workspaceFolders';
import type { EngineClient } from '../../../worker/client';
import type { Passphrases } from '../../passphrases';
import type { Targets } from '../targets';

/** What the commands that make and change images work with. */
export interface ManageParts {
  readonly engine: EngineClient;
  readonly model: ChainModel;
  readonly view: ChainView;
  readonly added: AddedImages;
  readonly folders: WorkspaceFolders;
  readonly gate: Gate;
  readonly targets: Targets;
  readonly passphrases: Passphrases;
  readonly log: vscode.LogOutputChannel;
}
