/*
 * To be imported before the toolkit. While it loads, the library below it asks whether the browser knows `:focus-visible` by putting a style
 * element into the page. The content security policy forbids that, so the answer would be no, and every click would leave a focus ring. For as
 * long as it loads, it gets an element whose style sheet was made by the object model instead.
 */

function createWithoutInlineStyle(this: Document, name: string, options?: ElementCreationOptions): HTMLElement {
  const create = (local: string) => Document.prototype.createElement.call(this, local, options);
  return name === 'style' ? Object.defineProperty(create('meta'), 'sheet', { value: new CSSStyleSheet() }) : create(name);
}

Object.defineProperty(document, 'createElement', { value: createWithoutInlineStyle, configurable: true });

/** The toolkit is loaded: the document is itself again. */
export function endFocusVisibleTest(): void {
  Reflect.deleteProperty(document, 'createElement');
}
