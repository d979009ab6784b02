// Texts in scripts go through gettext, as in templates. A page in another language loads Django's `JavaScriptCatalog`
// before the scripts, which defines these functions; without it, the texts stay as they are.

export const gettext = (text) => globalThis.django?.gettext?.(text) ?? text;

export const ngettext = (one, many, count) =>
  globalThis.django?.ngettext?.(one, many, count) ?? (count === 1 ? one : many);

// Return `text` with its `%(name)s` filled in.
export const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name]);
