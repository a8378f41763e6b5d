import type { LayerTranslation, Location, Region } from '../../protocol/inspect';
import type { OpenedChain } from '../../engine/chain/layer';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, warn, type Context } from '../commandLine';
import { withInspector } from '../inspectedChain';
import { prettyJson, type JsonValue } from '../json';

/** `locate`: where a guest offset lies in the files of a chain, or what a byte of the file is. Exit code 0, or 1 for an unusable address. */
export async function locate(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'locate',
      options: [FORMAT, OUTPUT, FOLLOW],
      operands: [2, 2],
      expecting: 'Expecting an image file name and an address',
    },
    args,
    context,
  );
  const output = line.output();
  const follow = line.follow() ?? 'all';
  return withInspector(line, follow, async (inspector, chain) => {
    const location = await inspector.locate(line.operands[1] ?? '', 'guest');
    if (!chain.complete) {
      warn(context, 'The backing chain is not complete: what its missing part holds is not known');
    }
    context.out.write(output === 'json' ? `${prettyJson(locationJson(location, chain))}\n` : locationText(location, chain));
    return 0;
  });
}

function nameOf({ depth, path }: LayerTranslation, chain: OpenedChain): string {
  return chain.layers[depth]?.filename ?? path;
}

function locationText({ understood, space, guestOffsets, layers, region }: Location, chain: OpenedChain): string {
  const lines = [understood];
  if (space === 'host') {
    lines.push(
      guestOffsets.length === 0
        ? 'belongs to no guest offset'
        : `belongs to guest offset${guestOffsets.length > 1 ? 's' : ''} ${guestOffsets.map(hex).join(', ')}`,
    );
  }
  for (const layer of layers) {
    const where = layer.hostOffset === null ? '' : ` at ${hex(layer.hostOffset)} (${layer.hostOffset})`;
    lines.push(`${layer.supplies ? '>' : ' '} ${layer.depth}  ${layer.class}${where}  ${nameOf(layer, chain)}`);
  }
  if (region) {
    lines.push(`in the file: ${region.label}, ${hex(region.hostOffset)} to ${hex(region.hostOffset + region.length - 1)}`);
  }
  return `${lines.join('\n')}\n`;
}

function locationJson({ understood, space, offset, guestOffsets, layers, region }: Location, chain: OpenedChain): JsonValue {
  return {
    address: understood,
    space,
    offset,
    'guest-offsets': guestOffsets,
    layers: layers.map((layer) => ({
      depth: layer.depth,
      filename: nameOf(layer, chain),
      class: layer.class,
      'host-offset': layer.hostOffset ?? undefined,
      supplies: layer.supplies,
    })),
    region: region === null ? undefined : regionJson(region),
  };
}

function regionJson({ hostOffset, length, class: kind, label }: Region): JsonValue {
  return { 'host-offset': hostOffset, length, class: kind, label };
}

function hex(offset: number): string {
  return `0x${offset.toString(16)}`;
}
