import type { OpenedChain } from '../../engine/chain/layer';
import { isCancelled } from '../../engine/errors';
import { parseSize } from '../../engine/manage/sizes';
import { mapChain } from '../../engine/map/chainMap';
import type { ExtentBatch } from '../../engine/map/extents';
import { HumanMapWriter, JsonMapWriter } from '../../engine/map/mapWriter';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { dataFileName, openGuestChain } from '../guestChain';

const MAX_OFFSET = 2n ** 63n - 1n;

/** `map`: which file of the chain holds which part of the disk. Exit code 0, or 1 when the map cannot be made or shown. */
export async function map(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'map',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'start-offset', short: 's', long: 'start-offset', argument: true },
        { name: 'max-length', short: 'l', long: 'max-length', argument: true },
        FOLLOW,
      ],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const output = line.output();
  const start = offsetOption(line, 'start-offset', 'start offset') ?? 0;
  const length = offsetOption(line, 'max-length', 'max length') ?? undefined;
  const chain = await openGuestChain(line.image(0), line.follow() ?? 'all', context);
  try {
    await (output === 'json' ? writeJson(chain, { start, length }, context) : writeHuman(chain, { start, length }, context));
    return 0;
  } finally {
    chain.close();
  }
}

interface Range {
  readonly start: number;
  readonly length: number | undefined;
}

async function writeJson(chain: OpenedChain, range: Range, { out }: Context): Promise<void> {
  const writer = new JsonMapWriter((bytes) => out.writeBytes(bytes));
  try {
    await mapWhileWanted(chain, range, (batch) => {
      writer.extents(batch);
      return out.wanted;
    });
  } catch (error) {
    writer.flush();
    throw error;
  }
  writer.finish(range.start);
}

async function writeHuman(chain: OpenedChain, range: Range, { out }: Context): Promise<void> {
  // As text: file names may hold what a terminal must not see.
  const writer = new HumanMapWriter(
    (bytes) => out.write(Buffer.from(bytes).toString()),
    (depth, guestOffset) => dataFileName(chain.layers[depth]!, guestOffset),
  );
  let unshown = 0;
  try {
    await mapWhileWanted(chain, range, (batch) => {
      unshown += writer.extents(batch) ? 0 : 1;
      return unshown === 0 && out.wanted;
    });
  } finally {
    writer.flush();
  }
  if (unshown > 0) {
    throw new CommandError('File contains external, encrypted or compressed clusters.\nTry using --output=json');
  }
}

/** Maps until `take` returns false. */
async function mapWhileWanted(chain: OpenedChain, range: Range, take: (batch: ExtentBatch) => boolean): Promise<void> {
  const enough = new AbortController();
  try {
    await mapChain(chain, { ...range, signal: enough.signal }, (batch) => {
      if (!enough.signal.aborted && !take(batch)) {
        enough.abort();
      }
    });
  } catch (error) {
    if (!enough.signal.aborted || !isCancelled(error)) {
      throw error;
    }
  }
}

function offsetOption(line: CommandLine, option: string, title: string): number | null {
  const text = line.value(option);
  if (text === null) {
    return null;
  }
  const bytes = parseSize(text);
  if (bytes === null) {
    throw new CommandError(
      `Invalid ${title} specified. You may use k, M, G, T, P or E suffixes for\nkilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.`,
    );
  }
  if (bytes > MAX_OFFSET) {
    throw new CommandError(`Invalid ${title} specified. Must be between 0 and ${MAX_OFFSET}.`);
  }
  return Number(bytes);
}
