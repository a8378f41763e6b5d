import type { LayerView } from '../../protocol/place';
import { EngineError } from '../../engine/errors';
import { DUMP_NAMES, dumpStructure, parseDumpTarget, type DumpName, type DumpOptions } from '../../engine/inspect/dump';
import type { Inspector } from '../../engine/inspect/inspector';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { withInspector } from '../inspectedChain';

/** What is printed when no structure is named: everything but the tables, which may have millions of rows. */
const SUMMARY: readonly DumpName[] = ['header', 'extensions', 'luks', 'snapshots', 'bitmaps'];

/** `dump`: on-disk structures field by field. Exit code 0, or 1 when the image has no such structure. */
export async function dump(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'dump',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'all', short: 'a', long: 'all' },
        { name: 'snapshot', short: 'l', long: 'snapshot', argument: true },
      ],
      operands: [1, 2],
      expecting: `Expecting an image file name and perhaps a structure: ${DUMP_NAMES.join(', ')}`,
    },
    args,
    context,
  );
  const json = line.output() === 'json';
  const target = line.operands[1] === undefined ? null : parseDumpTarget(line.operands[1]);
  return withInspector(line, 'none', async (inspector) => {
    const options = { json, all: line.has('all'), view: viewOf(inspector, line.value('snapshot')) };
    if (target === null) {
      context.out.write(await summary(inspector, options));
      return 0;
    }
    for await (const piece of dumpStructure(inspector, target, options)) {
      if (!context.out.wanted) {
        break;
      }
      context.out.write(piece);
    }
    return 0;
  });
}

/** The active state, or the snapshot with that id or, failing that, that name (as qemu-img looks for it). */
function viewOf(inspector: Inspector, wanted: string | null): LayerView {
  if (wanted === null) {
    return { kind: 'active' };
  }
  const snapshots = inspector.qcow2?.snapshots.snapshots ?? [];
  const found = snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted);
  if (!found) {
    throw new CommandError(`The image has no internal snapshot '${wanted}'`);
  }
  return { kind: 'snapshot', index: found.index };
}

async function summary(inspector: Inspector, options: DumpOptions): Promise<string> {
  const parts: [DumpName, string][] = [];
  for (const name of SUMMARY) {
    const text = await collect(inspector, name, options);
    if (text !== null) {
      parts.push([name, text]);
    }
  }
  if (parts.length === 0) {
    throw new CommandError('The image has no structures: every byte of it is guest data');
  }
  return options.json
    ? `${JSON.stringify(Object.fromEntries(parts.map(([name, text]) => [name, JSON.parse(text) as unknown])), null, 4)}\n`
    : parts.map(([, text]) => text).join('\n');
}

/** Null when the image has no such structure. */
async function collect(inspector: Inspector, name: DumpName, options: DumpOptions): Promise<string | null> {
  let text = '';
  try {
    for await (const piece of dumpStructure(inspector, { name, index: null }, options)) {
      text += piece;
    }
  } catch (error) {
    if (error instanceof EngineError && error.code === 'request.invalid') {
      return null;
    }
    throw error;
  }
  return text;
}
