import type * as vscode from 'vscode';

import type { Place } from '../../protocol/place';

/** Something in an image that a page runs a command on: one of its snapshots or bitmaps. */
export class ImagePlace {
  readonly uri: vscode.Uri;
  readonly place: Place;

  constructor(uri: vscode.Uri, place: Place) {
    this.uri = uri;
    this.place = place;
  }
}
