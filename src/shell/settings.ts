import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ExportTls } from '../protocol/exports';

export const SECTION = 'chainscope';

export interface DiscoverySettings {
  /** Globs of the files to look at. */
  readonly include: readonly string[];
  /** Globs of files and folders to leave out, beside `files.exclude`. */
  readonly exclude: readonly string[];
  readonly maxFiles: number;
}

export function discoverySettings(): DiscoverySettings {
  const settings = vscode.workspace.getConfiguration(SECTION);
  return {
    include: globs(settings.get('discovery.include'), ['**/*']),
    exclude: globs(settings.get('discovery.exclude'), []),
    maxFiles: whole(settings.get('discovery.maxFiles'), 20_000, 1, 1_000_000),
  };
}

/** Findings of each kind that a check keeps. */
export function maxFindings(): number {
  return whole(vscode.workspace.getConfiguration(SECTION).get('check.maxFindings'), 100, 1, 100_000);
}

/** Bytes for the metadata caches of an image that is written or served. */
export function metadataCacheBytes(): number {
  return whole(vscode.workspace.getConfiguration(SECTION).get('cache.metadataSize'), 32, 1, 4_096) * 1024 ** 2;
}

/** The address on which NBD exports listen that are no Unix sockets. */
export function nbdListenAddress(): string {
  const address = vscode.workspace.getConfiguration(SECTION).get('nbd.listenAddress');
  return typeof address === 'string' && address.trim() !== '' ? address.trim() : '127.0.0.1';
}

/** How NBD exports on a TCP port are encrypted; null when no certificates are set. */
export function nbdTls(): ExportTls | null {
  const settings = vscode.workspace.getConfiguration(SECTION);
  const folder = settings.get('nbd.tlsCredentials');
  return typeof folder === 'string' && path.isAbsolute(folder.trim())
    ? { folder: folder.trim(), verifyClients: settings.get('nbd.tlsVerifyClients') !== false }
    : null;
}

/** Milliseconds for which a guest must have asked for nothing before a job at idle pace goes on. */
export function idleGraceMs(): number {
  return whole(vscode.workspace.getConfiguration(SECTION).get('jobs.idleGrace'), 100, 1, 60_000);
}

/** Share of time, 0 to 1, in which programs wait for I/O from which on a job at idle pace holds back; null: it does not look. */
export function systemPressure(): number | null {
  const percent = whole(vscode.workspace.getConfiguration(SECTION).get('jobs.systemPressure'), 20, 0, 100);
  return percent === 0 ? null : percent / 100;
}

/** A settings file may hold anything. */
function globs(value: unknown, otherwise: readonly string[]): readonly string[] {
  return Array.isArray(value) ? value.filter((glob): glob is string => typeof glob === 'string' && glob !== '') : otherwise;
}

function whole(value: unknown, otherwise: number, least: number, most: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? Math.min(Math.max(Math.trunc(value), least), most) : otherwise;
}
