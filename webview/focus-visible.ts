/*
 * To be imported before the toolkit. While it loads, the library below it asks whether the browser knows `:focus-visible` by putting a style
 * element into the page. The content security policy forbids that, so the answer would be no, and every click would leave a focus ring. For as
 * long as it loads, it gets an element whose style sheet was made by the object model instead.
 */

const create = document.createElement.bind(document);

function createWithoutInlineStyle(name: string, options?: ElementCreationOptions): HTMLElement {
  if (name !== 'style') {
    return create(name, options);
  }
  return Object.defineProperty(create('meta'), 'sheet', { value: new CSSStyleSheet() });
}

Object.defineProperty(document, 'createElement', { value: createWithoutInlineStyle, configurable: true });

/** The toolkit is loaded: the document is itself again. */
export function endFocusVisibleTest(): void {
  Reflect.deleteProperty(document, 'createElement');
}
