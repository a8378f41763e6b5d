import * as vscode from 'vscode';

import type { ImageFormat } from '../../protocol/chain';
import type { EngineClient } from '../../worker/client';
import type { DiscoverySettings } from '../settings';
import { formatByName } from './imageNames';

/** Files whose first bytes are asked for in one request to the worker. */
const PROBE_BATCH = 512;

export interface FileList {
  readonly files: readonly string[];
  /** There are more than the settings allow to look at. */
  readonly truncated: boolean;
}

/** The workspace's files that may be images: those that the settings, and `files.exclude`, let be looked at. */
export async function listFiles(settings: DiscoverySettings): Promise<FileList> {
  const files: string[] = [];
  for (const folder of vscode.workspace.workspaceFolders ?? []) {
    if (folder.uri.scheme !== 'file' || settings.include.length === 0) {
      continue;
    }
    const found = await vscode.workspace.findFiles(
      new vscode.RelativePattern(folder, anyOf(settings.include)),
      settings.exclude.length === 0 ? undefined : new vscode.RelativePattern(folder, anyOf(settings.exclude)),
      settings.maxFiles + 1 - files.length,
    );
    files.push(...found.map(({ fsPath }) => fsPath));
    if (files.length > settings.maxFiles) {
      return { files: files.slice(0, settings.maxFiles), truncated: true };
    }
  }
  return { files, truncated: false };
}

/** Which of these files are images, by content or, where that says nothing, by name. */
export async function imagesAmong(
  files: readonly string[],
  engine: Pick<EngineClient, 'probeFiles'>,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ImageFormat>> {
  const images = new Map<string, ImageFormat>();
  for (let first = 0; first < files.length; first += PROBE_BATCH) {
    const batch = files.slice(first, first + PROBE_BATCH);
    const formats = await engine.probeFiles(batch, { signal });
    for (const [index, file] of batch.entries()) {
      const format = formats[index] ?? formatByName(file);
      if (format !== null) {
        images.set(file, format);
      }
    }
  }
  return images;
}

function anyOf(globs: readonly string[]): string {
  return globs.length === 1 ? (globs[0] ?? '') : `{${globs.join(',')}}`;
}
