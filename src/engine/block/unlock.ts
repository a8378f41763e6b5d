import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { openCipher } from '../formats/qcow2/crypto/open';
import type { Layer, OpenedChain } from './layer';

/**
 * Opens the ciphers of a chain's encrypted layers, for `openReader`.
 * @param passphraseOf the passphrase of a layer, or null where there is none: reading that layer is then refused
 * @throws EngineError `data.passphrase` for a wrong one, `format.invalid`, `format.unsupported`, `cancelled`
 */
export async function unlockChain(
  chain: OpenedChain,
  passphraseOf: (layer: Layer) => Uint8Array | null,
  signal?: AbortSignal,
): Promise<ReadonlyMap<Layer, ClusterCipher>> {
  const ciphers = new Map<Layer, ClusterCipher>();
  for (const layer of chain.layers) {
    const { detail } = layer;
    const passphrase = detail.format === 'qcow2' && detail.metadata.cryptMethod !== 0 ? passphraseOf(layer) : null;
    const cipher = detail.format === 'qcow2' && passphrase ? await openCipher(detail.metadata, passphrase, signal) : null;
    if (cipher) {
      ciphers.set(layer, cipher);
    }
  }
  return ciphers;
}
