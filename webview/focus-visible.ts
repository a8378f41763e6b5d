/*
 * To be imported before the toolkit. While it loads, the library below it asks whether the browser knows `:focus-visible` by putting a style
 * element into the page. The content security policy forbids that, so the answer would be no, and every click would leave a focus ring. For as
 * long as it loads, it gets an element whose style sheet was made by the object model instead.
 */

const create: (this: Document, name: string, options?: ElementCreationOptions) => HTMLElement = Reflect.get(
  Document.prototype,
  'createElement',
);

function createWithoutInlineStyle(this: Document, name: string, options?: ElementCreationOptions): HTMLElement {
  return name === 'style'
    ? Object.defineProperty(create.call(this, 'meta'), 'sheet', { value: new CSSStyleSheet() })
    : create.call(this, name, options);
}

Object.defineProperty(document, 'createElement', { value: createWithoutInlineStyle, configurable: true });

/** The toolkit is loaded: the document is itself again. */
export function endFocusVisibleTest(): void {
  Reflect.deleteProperty(document, 'createElement');
}
