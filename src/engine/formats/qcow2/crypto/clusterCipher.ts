/**
 * How an image's guest data is encrypted. Everything is in place and in whole sectors of 512 bytes: no byte moves, only its value
 * changes, so that a driver calls this beside its reads and writes of data clusters and knows no more.
 */
export interface ClusterCipher {
  /** Which offset makes the initialisation vector: where the bytes lie in the file (LUKS), or where the guest sees them (legacy AES). */
  readonly addressedBy: 'hostOffset' | 'guestOffset';
  /** False for what is read only: legacy AES. */
  readonly writable: boolean;
  /** @param offset of the first byte, of the kind that `addressedBy` says; a multiple of 512, as is the length */
  decrypt(bytes: Uint8Array, offset: number): void;
  /** @param offset as in `decrypt` */
  encrypt(bytes: Uint8Array, offset: number): void;
}
