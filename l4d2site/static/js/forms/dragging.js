// Drags the items of a list by their handles, `data-drag`, with a mouse, a pen or a finger. Escape puts one back.

// Call `onMoved` with an item of the list at `selector` that was let go at another place.
export function followDrags(selector, onMoved) {
  const list = document.querySelector(selector);
  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest("[data-drag]");
    if (!handle || event.button !== 0) return;
    event.preventDefault(); // No text is selected.
    drag(list, handle, event.pointerId, onMoved);
  });
}

function drag(list, handle, pointerId, onMoved) {
  const item = [...list.children].find((one) => one.contains(handle));
  const { nextElementSibling: before } = item;
  const done = new AbortController();
  const { signal } = done;
  item.dataset.dragged = "";

  function end(isKept) {
    done.abort();
    delete item.dataset.dragged;
    if (!isKept) list.insertBefore(item, before);
    else if (item.nextElementSibling !== before) onMoved(item);
  }

  function follow(event) {
    if (event.pointerId !== pointerId) return;
    // Where the pointer is above the middle of another item, this one comes before it.
    const others = [...list.children].filter((one) => one !== item);
    const below = others.find((one) => {
      const { top, height } = one.getBoundingClientRect();
      return event.clientY < top + height / 2;
    });
    if ((below ?? null) !== item.nextElementSibling) list.insertBefore(item, below ?? null);
  }

  document.addEventListener("pointermove", follow, { signal });
  document.addEventListener("pointerup", (event) => event.pointerId === pointerId && end(true), { signal });
  document.addEventListener("pointercancel", (event) => event.pointerId === pointerId && end(false), { signal });
  document.addEventListener("keydown", (event) => event.key === "Escape" && end(false), { signal });
}
