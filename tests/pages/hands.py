"""The ways in which people use a page in a real browser: a mouse, a finger, or only a keyboard."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

STEPS = """(one) => {
  const takers = "a[href], button, input, select, textarea, summary, [tabindex]";
  const isPassed = (place) => place.type === "radio" && !place.checked && place !== one;
  const places = [...document.querySelectorAll(takers)].filter((place) =>
    place.tabIndex >= 0 && !place.disabled && !isPassed(place)
    && place.checkVisibility({ visibilityProperty: true }));
  const focused = document.activeElement;
  if (focused === one) return 0;
  const isAfter = (place) => focused.compareDocumentPosition(place) & Node.DOCUMENT_POSITION_FOLLOWING;
  const ahead = places.filter(isAfter);
  if (ahead.includes(one)) return ahead.indexOf(one) + 1;
  return places.indexOf(one) - places.filter((place) => place !== focused && !isAfter(place)).length;
}"""
"""How many focusable places an element is ahead of the focus or, if negative, behind it."""

MOST_TRIES = 12
"""The count is off if the page changes, and for fields with several places inside, as for dates."""


class Mouse:
    """Clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, target: Locator) -> None:
        """Use a link, a button, or the control of a fold."""
        target.click()

    def tick(self, box: Locator) -> None:
        """Tick a box, or choose one of several."""
        box.check()

    def enter(self, field: Locator, text: str) -> None:
        """Replace what is in a field."""
        field.fill(text)

    def choose(self, field: Locator, label: str) -> None:
        """Choose what is called `label`."""
        field.select_option(label)

    def give(self, field: Locator, file: Path) -> None:
        """Choose a file for a form."""
        with self.page.expect_file_chooser() as chooser:
            self.press(field)
        chooser.value.set_files(file)


class Finger(Mouse):
    """Taps; the keyboard and the list of choices are the phone's own."""

    def press(self, target: Locator) -> None:
        """Tap it."""
        target.tap()

    def tick(self, box: Locator) -> None:
        """Tap it."""
        box.tap()
        expect(box).to_be_checked()


class Keyboard(Mouse):
    """Moves from place to place with Tab, and acts with Enter, Space, the arrows and letters."""

    def reach(self, target: Locator) -> None:
        """Press Tab, or Shift and Tab, until the focus is there and visible."""
        expect(target).to_be_visible()
        for _ in range(MOST_TRIES):
            steps: int = target.evaluate(STEPS)
            for _ in range(abs(steps)):
                self.page.keyboard.press("Tab" if steps > 0 else "Shift+Tab")
            if not steps:
                break
        expect(target).to_be_focused()
        expect(target).to_be_in_viewport()

    def press(self, target: Locator) -> None:
        """Press Enter on it."""
        self.reach(target)
        self.page.keyboard.press("Enter")

    def tick(self, box: Locator) -> None:
        """Press Space on a box, or an arrow until the focus is on that one of several."""
        if box.get_attribute("type") == "radio":
            group = self.page.locator(f"input[name={box.get_attribute('name')}]")
            self.reach(group.and_(self.page.locator(":checked")))
            for _ in range(group.count()):
                if not box.is_checked():
                    self.page.keyboard.press("ArrowDown")
        else:
            self.reach(box)
            self.page.keyboard.press("Space")
        expect(box).to_be_checked()

    def enter(self, field: Locator, text: str) -> None:
        """Overwrite what is in it."""
        self.reach(field)
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(text)

    def choose(self, field: Locator, label: str) -> None:
        """Press the arrow until it is chosen."""
        self.reach(field)
        self.page.keyboard.press("Home")
        for _ in range(field.locator("option").count()):
            if field.evaluate("one => one.selectedOptions[0].label") == label:
                break
            self.page.keyboard.press("ArrowDown")
        expect(field.locator("option:checked")).to_have_text(label)
