import { checkImage } from '../engine/check/check';
import type { PaceOptions } from '../engine/pace';
import type { CheckReport } from '../protocol/check';
import type { ImageMethod, ImageRequests } from '../protocol/engine';
import type { OpenImage } from './openImage';

/** What is asked of an image as it is. */
export type LookingMethod = Exclude<ImageMethod, 'unlock'>;

/** Answers one method of `ImageRequests` about an open image. */
type Handler<M extends LookingMethod> = (
  image: OpenImage,
  params: ImageRequests[M]['params'],
  options: PaceOptions,
) => ImageRequests[M]['result'] | Promise<ImageRequests[M]['result']>;

/** Findings kept of each kind, whatever the caller asks for: they cross a port, and nobody reads more. */
const MAX_FINDINGS = 10_000;

/** Every method there is; the type makes a missing or misspelt one an error. */
export const imageHandlers: { readonly [M in LookingMethod]: Handler<M> } = {
  overview: ({ overview }) => overview,
  usage: ({ maps }, _params, options) => maps.usage(options),
  tables: ({ inspector }, { view }, options) => inspector.tableShapes(view, options),
  tablePage: ({ inspector }, params) => inspector.tablePage(params),
  nextUsedRow: ({ inspector }, { table, row, backwards }, options) => inspector.nextUsedRow(table, row, backwards, options),
  snapshotsAndBitmaps: ({ inspector }, _params, options) => inspector.snapshotsAndBitmaps(options),
  locate: ({ inspector }, { address, space }, options) => inspector.locate(address, space, options),
  inspectCluster: ({ inspector }, params, options) => inspector.inspectCluster(params, options),
  hex: ({ inspector }, { hostOffset, length }, options) => inspector.hex(hostOffset, length, options),
  findBytes: ({ inspector }, { pattern, from }, options) => inspector.findBytes(pattern, from, options),
  mapShape: ({ maps }, params, options) => maps.shape(params, options),
  mapTile: ({ maps }, params, options) => maps.tile(params, options),
  mapCell: ({ maps }, params, options) => maps.cell(params, options),
  mapFind: ({ maps }, params, options) => maps.find(params, options),
  check: (image, params, options) => check(image, params, options),
};

async function check(
  { chain }: OpenImage,
  { deep, maxFindings }: ImageRequests['check']['params'],
  options: PaceOptions,
): Promise<CheckReport> {
  const { source, detail } = chain.layers[0]!;
  const loop = chain.links.find(({ state }) => state.kind === 'loop');
  const { clusters: _clusters, ...report } = await checkImage(source, detail.format, {
    ...options,
    deep,
    maxFindings: Math.min(maxFindings, MAX_FINDINGS),
    dataFile: detail.format === 'qcow2' ? detail.dataFile : null,
    chainLoop: loop ? { path: loop.path ?? loop.recordedName } : null,
  });
  return report;
}
