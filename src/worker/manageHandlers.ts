import { openChain } from '../engine/block/chain';
import { LOOKING } from '../engine/block/follow';
import { compareChains, type Comparison } from '../engine/block/compare';
import type { OpenedChain } from '../engine/block/layer';
import { invalidRequest } from '../engine/errors';
import type { OpeningGate } from '../engine/gate/gate';
import type { PaceOptions } from '../engine/pace';
import type { ComparisonResult, ImageReference, ManageCall, ManageMethod, ManageRequests } from '../protocol/manage';

/** What an operation is done with. */
export interface ManageContext extends PaceOptions {
  readonly gate: OpeningGate;
  /** Goes on where locks cannot be had. */
  readonly withoutLocks: boolean;
}

type Handler<M extends ManageMethod> = (
  params: ManageRequests[M]['params'],
  context: ManageContext,
) => Promise<ManageRequests[M]['result']>;

const handlers: { readonly [M in ManageMethod]?: Handler<M> } = {
  compare,
};

/** Does what the shell asks for. @throws EngineError */
export function manage({ method, params }: ManageCall, context: ManageContext): Promise<ManageRequests[ManageMethod]['result']> {
  const handler = Object.hasOwn(handlers, method) ? handlers[method] : undefined;
  if (!handler) {
    throw invalidRequest(`The engine has no operation '${method}'.`);
  }
  return (handler as (params: ManageCall['params'], context: ManageContext) => ReturnType<Handler<ManageMethod>>)(params, context);
}

async function compare({ first, second, strict }: ManageRequests['compare']['params'], context: ManageContext): Promise<ComparisonResult> {
  return withChain(first, context, (a) =>
    withChain(second, context, async (b) => resultOf(await compareChains(a, b, { ...context, strict }))),
  );
}

async function withChain<T>(
  { path, format }: ImageReference,
  { gate, signal }: ManageContext,
  work: (chain: OpenedChain) => Promise<T>,
): Promise<T> {
  const chain = await openChain(path, { gate, format, signal, open: LOOKING });
  try {
    return await work(chain);
  } finally {
    chain.close();
  }
}

function resultOf(comparison: Comparison): ComparisonResult {
  switch (comparison.kind) {
    case 'identical':
      return {
        identical: true,
        summary: comparison.sizesDiffer ? 'the same, but for zeroes at the end of the longer disk.' : 'a guest reads the same from both.',
        guestOffset: null,
      };
    case 'contentMismatch':
      return {
        identical: false,
        summary: `the first difference is at guest offset ${comparison.guestOffset}${comparison.sizesDiffer ? ', past the end of the shorter disk' : ''}.`,
        guestOffset: comparison.guestOffset,
      };
    case 'sizeMismatch':
      return { identical: false, summary: 'their disks are of different sizes.', guestOffset: null };
    case 'statusMismatch':
      return {
        identical: false,
        summary: `from guest offset ${comparison.guestOffset} on, what is allocated differs.`,
        guestOffset: comparison.guestOffset,
      };
    case 'statusFailed':
    case 'readFailed':
      throw comparison.error;
  }
}
