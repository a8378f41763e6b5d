import { amendImage } from './amendImage';
import { addBitmap, clearBitmap, disableBitmap, enableBitmap, mergeBitmap, removeBitmap } from './bitmapCommands';
import { commitImage, rebaseImage } from './chainCommands';
import { compareImages } from './compareImages';
import { convertImage, measureImage } from './convertImage';
import { newCacheImage } from './newCacheImage';
import { newImage, newOverlay } from './newImages';
import type { ManageParts } from './parts';
import { resizeImage } from './resizeImage';
import { applySnapshot, createSnapshot, deleteSnapshot } from './snapshotCommands';

/** The commands that make, change and compare images, by the last part of their identifiers. */
export const MANAGE_COMMANDS = {
  addBitmap,
  amendImage,
  applySnapshot,
  clearBitmap,
  commitImage,
  compareImages,
  convertImage,
  createSnapshot,
  deleteSnapshot,
  disableBitmap,
  enableBitmap,
  measureImage,
  mergeBitmap,
  newCacheImage,
  newImage: (parts: ManageParts) => newImage(parts),
  newOverlay,
  rebaseImage,
  removeBitmap,
  resizeImage,
} as const satisfies Readonly<Record<string, (parts: ManageParts, argument: unknown) => Promise<void>>>;

export type ManageCommand = keyof typeof MANAGE_COMMANDS;
