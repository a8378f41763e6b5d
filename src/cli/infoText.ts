import type { ImageInfo, SnapshotInfo } from '../engine/info/imageInfo';
import { infoJson } from './infoJson';
import { orderedEntries, type JsonValue } from './json';
import { formatSize } from './sizes';

/** An image's information as `qemu-img info` 7.2 prints it for people, line by line. */
export function infoText(info: ImageInfo): string {
  const lines = [
    `image: ${info.filename}`,
    `file format: ${info.format}`,
    `virtual size: ${formatSize(info.virtualSize)} (${info.virtualSize} bytes)`,
    `disk size: ${info.actualSize === undefined ? 'unavailable' : formatSize(info.actualSize)}`,
  ];
  if (info.encrypted) {
    lines.push('encrypted: yes');
  }
  if (info.clusterSize !== undefined) {
    lines.push(`cluster_size: ${info.clusterSize}`);
  }
  if (info.dirtyFlag) {
    lines.push('cleanly shut down: no');
  }
  if (info.backingFilename !== undefined) {
    const actual = info.fullBackingFilename;
    lines.push(`backing file: ${info.backingFilename}${actual === info.backingFilename ? '' : ` (actual path: ${actual ?? 'unknown'})`}`);
  }
  if (info.backingFilenameFormat !== undefined) {
    lines.push(`backing file format: ${info.backingFilenameFormat}`);
  }
  if (info.snapshots) {
    lines.push('Snapshot list:', ...snapshotTable(info.snapshots));
  }
  const specific = infoJson(info)['format-specific'];
  if (info.formatSpecific && isObject(specific) && specific['data'] !== undefined) {
    lines.push('Format specific information:', ...nested(specific['data'], 1));
  }
  return `${lines.join('\n')}\n`;
}

/** The lines of `Snapshot list:`. */
export function snapshotTable(snapshots: readonly SnapshotInfo[]): string[] {
  return [
    snapshotRow('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map(({ id, name, vmStateSize, dateSec, vmClockSec, vmClockNsec, icount }) =>
      snapshotRow(id, name, formatSize(vmStateSize), date(dateSec), clock(vmClockSec, vmClockNsec), icount?.toString() ?? ''),
    ),
  ];
}

function snapshotRow(id: string, tag: string, vmSize: string, taken: string, vmClock: string, icount: string): string {
  // C counts bytes where it pads.
  const left = (text: string, width: number) => text + ' '.repeat(Math.max(0, width - Buffer.byteLength(text)));
  return `${left(id, 9)} ${left(tag, 16)} ${vmSize.padStart(8)}${taken.padStart(20)}${vmClock.padStart(13)}${icount.padStart(11)}`;
}

/** In the local time zone, as qemu-img has it. */
function date(seconds: number): string {
  const at = new Date(seconds * 1000);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

function clock(seconds: number, nanoseconds: number): string {
  const hours = Math.floor(seconds / 3600);
  const milliseconds = String(Math.floor(nanoseconds / 1_000_000)).padStart(3, '0');
  return `${two(hours)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${milliseconds}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function isObject(value: JsonValue | undefined): value is Readonly<Record<string, JsonValue>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Members and elements one to a line, deeper ones indented by four more. */
function nested(value: JsonValue, depth: number): string[] {
  const entries: [string, JsonValue][] = Array.isArray(value)
    ? (value as readonly JsonValue[]).map((element, index) => [`[${index}]`, element])
    : isObject(value)
      ? orderedEntries(value).map(([key, member]) => [key.replaceAll('-', ' '), member])
      : [];
  const indent = '    '.repeat(depth);
  return entries.flatMap(([key, member]) =>
    typeof member === 'object' && member !== null
      ? [`${indent}${key}:`, ...nested(member, depth + 1)]
      : [`${indent}${key}: ${String(member)}`],
  );
}
