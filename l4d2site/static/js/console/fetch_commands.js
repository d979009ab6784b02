// Returns the list of the latest commands as HTML; nothing if the panel does not answer, which `live.js` reports.
export async function fetchCommands(address) {
  try {
    const response = await fetch(address, { cache: "no-store", redirect: "error" });
    return response.ok ? await response.text() : "";
  } catch {
    return "";
  }
}
