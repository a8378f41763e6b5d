/** QEMU counts disks in sectors of this many bytes, whatever the format. */
export const SECTOR_SIZE = 512;

/** Virtual size of a raw image: the file's length, its last sector filled up with zeroes (block.c, bdrv_getlength). */
export function rawVirtualSize(fileSize: number): number {
  return Math.ceil(fileSize / SECTOR_SIZE) * SECTOR_SIZE;
}
