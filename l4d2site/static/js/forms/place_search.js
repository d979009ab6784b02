// Finds overlays among those that can be added to a blueprint, by the text on them.

function find(text) {
  const wanted = text.trim().toLowerCase();
  for (const place of document.querySelectorAll("[data-places=rest] > [data-place]")) {
    place.hidden = !place.querySelector(".place-words").textContent.toLowerCase().includes(wanted);
  }
}

const search = document.querySelector("[data-find-place]");
search?.addEventListener("input", () => find(search.value));
search?.addEventListener("keydown", (event) => {
  if (event.key === "Enter") event.preventDefault(); // It would save the form.
});
