// The HTML that the server sent for each live region. Imported first: other scripts change the page.

export const sources = new Map();

for (const region of document.querySelectorAll("[data-live]")) {
  sources.set(region.dataset.live, region.innerHTML);
}
