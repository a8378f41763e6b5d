import * as path from 'node:path';
import * as vscode from 'vscode';

import type { Chain, ChainLink } from '../../protocol/chain';
import { ChainItem } from '../chains/chainTree';
import { formatByName } from '../chains/imageNames';
import { withHolders } from '../chains/forest';
import type { EngineClient } from '../../worker/client';
import { labelText, plainText } from '../text/plain';
import type { Decision } from '../trust/decisionStore';
import type { Gate } from '../trust/gate';
import { withRealPaths } from '../trust/realPath';
import { requireTrust } from '../trust/required';
import type { Targets } from './targets';
import { askPermission, tellInformation } from '../messages';

interface AccessParts {
  readonly engine: EngineClient;
  readonly gate: Gate;
  readonly targets: Targets;
}

/** A path is at most so long, in characters; none is cut. */
const WHOLE = 4_096;

/** A name in an image that leads to a file which is not open. */
interface NamedLink {
  /** Absolute path of the image that holds the name. */
  readonly image: string;
  readonly link: ChainLink;
}

/** The commands by which a person decides what may be opened because an image names it. */
export class AccessCommands {
  private readonly parts: AccessParts;

  constructor(parts: AccessParts) {
    this.parts = parts;
  }

  /** *Allow Access…*: asks for each file of a chain that was not opened, from the top down, since one more may come to light below. */
  async grant(argument: unknown): Promise<void> {
    const file = await this.chainOf(argument);
    if (file === null || !(await trusted())) {
      return;
    }
    const asked = new Set<string>();
    for (;;) {
      const next = namedLinks(await this.describe(file)).find(({ image, link }) => isGrantable(link) && !asked.has(keyOf(image, link)));
      if (next === undefined) {
        break;
      }
      asked.add(keyOf(next.image, next.link));
      if (!(await this.ask(next))) {
        return;
      }
    }
    if (asked.size === 0) {
      void tellInformation(`${nameOf(file)} names no file that could be opened and is not.`);
    }
  }

  /** *Locate Missing Image…*: the person says which file to open in place of one that is not there. */
  async locate(argument: unknown): Promise<void> {
    const file = await this.chainOf(argument);
    if (file === null || !(await trusted())) {
      return;
    }
    const named = await this.linkToLocate(file, argument);
    if (named === null) {
      return;
    }
    const { image, link } = named;
    const [chosen] =
      (await vscode.window.showOpenDialog({
        title: `Locate ${plainText(link.recordedName)}`,
        openLabel: 'Use This File',
        defaultUri: vscode.Uri.file(path.dirname(image)),
      })) ?? [];
    if (chosen !== undefined) {
      await this.parts.gate.add({ kind: 'replacement', image, recordedName: link.recordedName, target: chosen.fsPath });
    }
  }

  /** *Manage Access Grants*: takes back what was decided. */
  async manage(): Promise<void> {
    const decisions = this.parts.gate.all;
    if (decisions.length === 0) {
      void tellInformation('No image of this workspace was given access to a file, and no missing one was located.');
      return;
    }
    const chosen = await vscode.window.showQuickPick(
      decisions.map((decision) => ({ ...describeDecision(decision), decision })),
      { canPickMany: true, title: 'Access Grants', placeHolder: 'Choose what to take back', matchOnDetail: true },
    );
    if (chosen !== undefined && chosen.length > 0) {
      await this.parts.gate.remove(chosen.map(({ decision }) => decision));
    }
  }

  private async ask({ image, link }: NamedLink): Promise<boolean> {
    const refusal = this.parts.gate.refusal(image, link.recordedName);
    const target = refusal?.address ?? refusal?.path ?? link.path;
    if (target === null) {
      return false;
    }
    const allowed = await askPermission(
      `Let ${nameOf(image)} open ${nameOf(target)}?`,
      [
        `${plainText(image, WHOLE)} names it as its ${role(link)}:`,
        plainText(target, WHOLE),
        'It is opened for reading, now and whenever this image is looked at in this workspace.',
      ],
      'Allow',
    );
    if (!allowed) {
      return false;
    }
    await this.parts.gate.add({ kind: 'grant', image, target });
    return true;
  }

  private async linkToLocate(file: string, argument: unknown): Promise<NamedLink | null> {
    const links = namedLinks(await this.describe(file)).filter(({ link }) =>
      ['missing', 'refused', 'unreadable'].includes(link.state.kind),
    );
    const item = this.parts.targets.item(argument);
    const ofRow = item?.node.kind === 'image' ? item.node.link.recordedName : null;
    const found = links.find(({ link }) => link.recordedName === ofRow) ?? (links.length === 1 ? links[0] : undefined);
    if (found !== undefined) {
      return found;
    }
    if (links.length === 0) {
      void tellInformation(`${nameOf(file)} misses no file.`);
      return null;
    }
    const chosen = await vscode.window.showQuickPick(
      links.map((named) => ({
        label: labelText(named.link.recordedName),
        description: `${role(named.link)} of ${nameOf(named.image)}`,
        named,
      })),
      { placeHolder: 'Choose the file to locate' },
    );
    return chosen?.named ?? null;
  }

  /** The active layer of the chain that a command is about. */
  private async chainOf(argument: unknown): Promise<string | null> {
    return argument instanceof ChainItem && argument.node.kind === 'image' ? argument.node.activeLayer : this.parts.targets.file(argument);
  }

  private async describe(file: string): Promise<Chain> {
    const { engine } = this.parts;
    const [format] = await engine.probeFiles([file]);
    return withRealPaths(await engine.describeChain({ path: file, format: format ?? formatByName(file) }));
  }
}

function namedLinks({ links: [active, ...below] }: Chain): NamedLink[] {
  return active === undefined
    ? []
    : withHolders(active, below).flatMap(({ link, holder }) => (holder.path === null ? [] : [{ image: holder.path, link }]));
}

function isGrantable({ state, path: file }: ChainLink): boolean {
  return state.kind === 'refused' && (state.reason === 'network' || file !== null);
}

/** Nothing is decided about single files before the workspace as a whole is trusted. */
function trusted(): Promise<boolean> {
  return requireTrust('In a workspace that is not trusted, no file is opened because an image names it.');
}

function describeDecision(decision: Decision): vscode.QuickPickItem {
  return {
    label: labelText(path.basename(decision.target)),
    description:
      decision.kind === 'grant'
        ? `may be opened by ${nameOf(decision.image)}`
        : `stands in for ${plainText(decision.recordedName)} of ${nameOf(decision.image)}`,
    detail: `${plainText(decision.target)} - ${plainText(decision.image)}`,
  };
}

function role(link: ChainLink): string {
  return link.role === 'data-file' ? 'data file' : link.role === 'extent' ? 'extent' : 'backing file';
}

function nameOf(file: string): string {
  return plainText(path.basename(file));
}

function keyOf(image: string, link: ChainLink): string {
  return `${image}\n${link.recordedName}`;
}
