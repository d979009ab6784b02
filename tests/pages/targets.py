"""What a finger has to hit on a page, and which of that is too small."""

from playwright.sync_api import Page

SMALL_TARGETS = """() => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const middle = ({ top, bottom, left, right }) => [(left + right) / 2, (top + bottom) / 2];
  const fields = "select, textarea, [role=combobox], input:not([type=hidden]), label:has(input)";
  const acts = `a[href], button, summary, ${fields}`;
  const box = (one) => one.getBoundingClientRect();
  const shown = [...document.querySelectorAll(acts)].filter((one) =>
    one.checkVisibility({ visibilityProperty: true })
    && !one.closest(".visually-hidden, .skip-link, .skip-to-content-link, .select2-hidden-accessible")
    && box(one).right > 0 && box(one).bottom > 0);
  // A control inside its label: the label is what one hits. So is the label beside a box to tick.
  const isBox = (one) => one.matches("[type=checkbox], [type=radio]");
  const hit = (one) => one.closest("label") || (isBox(one) && one.labels[0]) || one;
  const targets = [...new Set(shown.map(hit))];

  // The height of such a link is that of the words around it, which nobody would want 44 px high.
  const isInSentence = (one) =>
    one.matches("a, button") && getComputedStyle(one).display === "inline"
    && [...one.parentElement.childNodes].some((node) => node.nodeType === 3 && /\\w/.test(node.data));
  const isApart = (one) => {
    const [x, y] = middle(box(one));
    return targets.every((other) => {
      if (other === one || other.contains(one)) return true;
      const [x2, y2] = middle(box(other));
      return Math.hypot(x - x2, y - y2) >= 24;
    });
  };
  return targets
    .filter((one) => !one.matches(".log-number"))
    .filter((one) => Math.round(box(one).height) < 44 && !(isInSentence(one) && isApart(one)))
    .filter((one) => !(isBox(one) && box(one).height >= 24 && isApart(one)))
    .map((one) => `${Math.round(box(one).height)} px: ${one.outerHTML.replace(/\\s+/g, " ").slice(0, 160)}`);
}"""
"""Targets less than 44 px high, with every fold open.

Links within a sentence may be as high as its words (the inline exception of WCAG 2.5.8) if the middle of each
is 24 px from that of any other target. So may the number of a line of a log, of which a page has hundreds. A
box to tick without a label, as the admin site has in its rows, may be 24 px high, with the same distance.
"""


def small_targets(page: Page) -> list[str]:
    """Return a page's targets that are too small for a finger: their height, and the start of their HTML."""
    found: list[str] = page.evaluate(SMALL_TARGETS)
    return found
