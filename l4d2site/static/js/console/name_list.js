// The list below a prompt from which one name can be chosen: the listbox of a combobox.

import { gettext } from "../words.js";

export class NameList {
  #input;
  #list = document.createElement("ul");
  chosen = -1;

  // `line` is the positioned element below which it hangs.
  constructor(input, line, onTake) {
    this.#input = input;
    Object.assign(this.#list, { id: `${input.id}-names`, className: "completion", role: "listbox", hidden: true });
    this.#list.ariaLabel = gettext("Commands and cvars");
    line.append(this.#list);
    Object.assign(input, { role: "combobox", ariaAutoComplete: "list", ariaExpanded: "false" });
    input.setAttribute("aria-controls", this.#list.id);
    // Before the click moves the focus away from the prompt.
    this.#list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("li");
      if (option) onTake([...this.#list.children].indexOf(option));
    });
  }

  show(names) {
    this.#list.replaceChildren(...names.map((name, index) => this.#makeOption(name, index)));
    this.#list.hidden = !names.length;
    this.#input.ariaExpanded = String(!this.#list.hidden);
    this.choose(-1);
  }

  choose(index) {
    this.chosen = index;
    const options = [...this.#list.children];
    for (const [at, option] of options.entries()) option.ariaSelected = String(at === index);
    if (index < 0) return this.#input.removeAttribute("aria-activedescendant");
    this.#input.setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  }

  // Inserted as text, whatever a plugin calls itself.
  #makeOption([name, help, isCommand], index) {
    const option = Object.assign(document.createElement("li"), { id: `${this.#list.id}-${index}`, role: "option" });
    const code = Object.assign(document.createElement("code"), { textContent: name });
    const text = document.createElement("span");
    Object.assign(text, { className: "quiet", textContent: help || (isCommand ? gettext("command") : gettext("cvar")) });
    option.append(code, " ", text);
    return option;
  }
}
