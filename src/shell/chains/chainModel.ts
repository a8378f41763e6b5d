import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ImageFormat } from '../../protocol/chain';
import type { EngineClient } from '../../worker/client';
import { isCancelled, messageOf } from '../errors';
import { DisposableStore, type Disposable } from '../lifecycle';
import { discoverySettings } from '../settings';
import { contains } from '../trust/policy';
import { realPathOf, withRealPaths } from '../trust/realPath';
import type { WorkspaceFolders } from '../trust/workspaceFolders';
import type { AddedImages } from './addedImages';
import { imagesAmong, listFiles } from './discovery';
import { buildForest, EMPTY_FOREST, type ChainDescription, type Forest } from './forest';
import { compareForests, type ForestChange } from './forestDiff';
import { tailsOf } from './tails';

/** Chains asked for at one time; the worker answers one after the other anyway. */
const CONCURRENT_DESCRIPTIONS = 4;

/** After more changes than this in one burst everything is looked at again. */
const MANY_CHANGES = 5_000;

/** Files that changed on the disk, as the file system watcher spells them. */
export interface FileChanges {
  readonly created: ReadonlySet<string>;
  readonly changed: ReadonlySet<string>;
  readonly deleted: ReadonlySet<string>;
}

interface Image {
  readonly format: ImageFormat;
  readonly added: boolean;
}

interface ModelParts {
  readonly engine: Pick<EngineClient, 'describeChain' | 'probeFiles'>;
  readonly folders: WorkspaceFolders;
  readonly added: AddedImages;
  readonly log: vscode.LogOutputChannel;
}

/**
 * The images of the workspace and what is known of their chains. All changes go through one queue, so that two scans never mix; whoever
 * shows the forest hears only what differs.
 */
export class ChainModel implements Disposable {
  private readonly parts: ModelParts;
  private readonly disposables = new DisposableStore();
  private readonly changed = this.disposables.add(new vscode.EventEmitter<ForestChange>());
  readonly onDidChange = this.changed.event;

  /** By path, as the workspace spells it. */
  private readonly images = new Map<string, Image>();
  private readonly descriptions = new Map<string, ChainDescription>();
  private current: Forest = EMPTY_FOREST;
  private truncated = false;
  private queue: Promise<unknown> = Promise.resolve();
  private scan = new AbortController();
  private readonly life = new AbortController();

  constructor(parts: ModelParts) {
    this.parts = parts;
  }

  get forest(): Forest {
    return this.current;
  }

  /** Some files were not looked at, because there are more than the settings allow. */
  get isTruncated(): boolean {
    return this.truncated;
  }

  /** Looks at the whole workspace again. A scan that is under way is given up for this one. */
  refresh(): Promise<void> {
    this.scan.abort();
    this.scan = new AbortController();
    const { signal } = this.scan;
    return this.enqueue(() => this.scanAll(signal));
  }

  /**
   * Looks again at the images that are known: at all of them, or at those that one of these files takes part in.
   * @param fresh asks servers that did not answer a moment ago, too
   */
  reread(files?: readonly string[], fresh = false): Promise<void> {
    return this.enqueue(async () => {
      const images = files === undefined ? [...this.images.keys()] : await this.affectedBy(new Set(files));
      await this.describe(images, this.life.signal, fresh);
      this.publish();
    });
  }

  /** Follows the file system. */
  apply(changes: FileChanges): Promise<void> {
    return this.enqueue(() => this.follow(changes));
  }

  dispose(): void {
    this.life.abort();
    this.scan.abort();
    this.disposables.dispose();
  }

  private enqueue(work: () => Promise<void>): Promise<void> {
    const done = this.queue.then(async () => {
      if (this.life.signal.aborted) {
        return;
      }
      try {
        await work();
      } catch (error) {
        if (!isCancelled(error)) {
          this.parts.log.error(`Looking for images failed: ${messageOf(error)}`);
          throw error;
        }
      }
    });
    // The next in the queue starts whether or not this one failed; who asked for this one hears of it.
    this.queue = done.catch(() => undefined);
    return done;
  }

  private async scanAll(signal: AbortSignal): Promise<void> {
    const started = performance.now();
    const { files, truncated } = await listFiles(discoverySettings());
    const found = await imagesAmong(await this.mayOpen(files), this.parts.engine, signal);
    if (signal.aborted) {
      return;
    }
    this.truncated = truncated;
    this.images.clear();
    for (const [file, format] of found) {
      this.images.set(file, { format, added: false });
    }
    for (const { path: file, format } of this.parts.added.all) {
      this.images.set(file, { format: found.get(file) ?? format, added: true });
    }
    if (await this.describe([...this.images.keys()], signal)) {
      this.publish();
      const elapsed = Math.round(performance.now() - started);
      this.parts.log.info(`Found ${this.images.size} images among ${files.length} files in ${elapsed} ms.`);
    }
  }

  private async follow({ created, changed, deleted }: FileChanges): Promise<void> {
    const candidates = [...created, ...changed];
    if (candidates.length > MANY_CHANGES || (await anyFolder(created))) {
      // Files inside a folder that was moved here are not always told of one by one.
      await this.scanAll(this.life.signal);
      return;
    }
    for (const [file, { added }] of [...this.images]) {
      if (!added && [...deleted].some((gone) => gone === file || contains(gone, file))) {
        this.images.delete(file);
      }
    }
    const images = await imagesAmong(await this.mayOpen(candidates), this.parts.engine, this.life.signal);
    for (const file of changed) {
      if (this.images.get(file)?.added === false && !images.has(file)) {
        this.images.delete(file);
      }
    }
    await this.take(new Map([...images].filter(([file]) => !this.images.has(file))));
    for (const [file, format] of images) {
      const known = this.images.get(file);
      if (known !== undefined && known.format !== format) {
        this.images.set(file, { ...known, format });
      }
    }
    await this.describe(await this.affectedBy(new Set([...candidates, ...deleted])), this.life.signal);
    this.publish();
  }

  /** Files that may be looked into: in an untrusted workspace none to which a symbolic link leads out of it. */
  private async mayOpen(files: readonly string[]): Promise<readonly string[]> {
    if (vscode.workspace.isTrusted) {
      return files;
    }
    const folders = await this.parts.folders.real();
    const real = await Promise.all(files.map((file) => realPathOf(file)));
    return files.filter((_, index) => folders.some((folder) => contains(folder, real[index] ?? '')));
  }

  /** Takes up new images, as far as the settings let them be shown. */
  private async take(images: ReadonlyMap<string, ImageFormat>): Promise<void> {
    if (images.size === 0) {
      return;
    }
    const { files, truncated } = await listFiles(discoverySettings());
    this.truncated = truncated;
    const listed = new Set(files);
    for (const [file, format] of images) {
      if (listed.has(file)) {
        this.images.set(file, { format, added: false });
      }
    }
  }

  /** Images that one of these files is, or lies in the chain of. */
  private async affectedBy(files: ReadonlySet<string>): Promise<string[]> {
    const { folders } = this.parts;
    const touched = new Set(files);
    for (const file of files) {
      touched.add(await folders.toReal(file));
    }
    return [...this.images.keys()].filter((file) => {
      const description = this.descriptions.get(file);
      if (description?.kind !== 'chain' || touched.has(file)) {
        return description === undefined || touched.has(file);
      }
      return description.chain.links.some((link) => link.path !== null && (touched.has(link.path) || beneath(touched, link.path)));
    });
  }

  /** Returns false, and changes nothing, when it was cancelled. */
  private async describe(images: readonly string[], signal: AbortSignal, fresh = false): Promise<boolean> {
    const described = new Map<string, ChainDescription>();
    // Overlays tend to have the later names, and one that is read first saves reading its backing files.
    const waiting = images.toSorted();
    const next = async (): Promise<void> => {
      for (let file = waiting.pop(); file !== undefined && !signal.aborted; file = waiting.pop()) {
        if (!described.has(file)) {
          const description = await this.describeOne(file, signal, fresh);
          described.set(file, description);
          await this.noteTails(description, described);
        }
      }
    };
    await Promise.all(Array.from({ length: CONCURRENT_DESCRIPTIONS }, next));
    if (signal.aborted) {
      return false;
    }
    for (const [file, description] of described) {
      this.descriptions.set(file, description);
    }
    for (const file of this.descriptions.keys()) {
      if (!this.images.has(file)) {
        this.descriptions.delete(file);
      }
    }
    return true;
  }

  private async describeOne(file: string, signal: AbortSignal, fresh: boolean): Promise<ChainDescription> {
    try {
      const format = this.images.get(file)?.format ?? null;
      const chain = await this.parts.engine.describeChain({ path: file, format, fresh }, { signal });
      return { kind: 'chain', chain: await withRealPaths(chain) };
    } catch (error) {
      if (isCancelled(error)) {
        throw error;
      }
      return { kind: 'failed', message: messageOf(error) };
    }
  }

  private async noteTails(description: ChainDescription, described: Map<string, ChainDescription>): Promise<void> {
    if (description.kind !== 'chain') {
      return;
    }
    for (const { path: real, format, chain } of tailsOf(description.chain)) {
      const file = await this.parts.folders.toSpelt(real);
      if (this.images.get(file)?.format === format) {
        described.set(file, { kind: 'chain', chain });
      }
    }
  }

  private publish(): void {
    const before = this.current;
    this.current = buildForest(
      [...this.images].flatMap(([file, { added }]) => {
        const description = this.descriptions.get(file);
        return description === undefined ? [] : [{ path: file, added, description }];
      }),
    );
    const change = compareForests(before, this.current);
    if (change.roots || change.nodes.length > 0) {
      this.changed.fire(change);
    }
  }
}

/** Whether a file lies in one of the paths, should they be folders: of a folder that went only its own name is told. */
function beneath(paths: ReadonlySet<string>, file: string): boolean {
  for (let folder = path.dirname(file); folder !== path.dirname(folder); folder = path.dirname(folder)) {
    if (paths.has(folder)) {
      return true;
    }
  }
  return false;
}

async function anyFolder(paths: ReadonlySet<string>): Promise<boolean> {
  for (const file of paths) {
    try {
      const { type } = await vscode.workspace.fs.stat(vscode.Uri.file(file));
      if ((type & vscode.FileType.Directory) !== 0) {
        return true;
      }
    } catch {
      // Created and gone again before it was looked at.
    }
  }
  return false;
}
