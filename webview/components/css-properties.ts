import { noChange } from 'lit';
import { Directive, directive, PartType, type AttributePart, type DirectiveParameters, type PartInfo } from 'lit/directive.js';

/**
 * Sets CSS properties of an element through the CSS object model. lit's own styleMap writes a style attribute first, which the page's
 * content security policy forbids.
 */
class CssPropertiesDirective extends Directive {
  private readonly set = new Set<string>();

  constructor(part: PartInfo) {
    super(part);
    if (part.type !== PartType.ELEMENT) {
      throw new Error('cssProperties stands on an element.');
    }
  }

  render(_properties: Readonly<Record<string, string | null>>): unknown {
    return noChange;
  }

  override update(part: AttributePart, [properties]: DirectiveParameters<this>): unknown {
    const { element } = part;
    if (!(element instanceof HTMLElement)) {
      return noChange;
    }
    const { style } = element;
    for (const name of this.set) {
      if (!(name in properties)) {
        style.removeProperty(name);
        this.set.delete(name);
      }
    }
    for (const [name, value] of Object.entries(properties)) {
      if (value === null) {
        style.removeProperty(name);
      } else {
        style.setProperty(name, value);
        this.set.add(name);
      }
    }
    return noChange;
  }
}

export const cssProperties = directive(CssPropertiesDirective);
