// Returns the list of the latest commands as HTML; nothing while the panel is away, which `live.js` says.
export async function fetchCommands(address) {
  try {
    const response = await fetch(address, { cache: "no-store", redirect: "error" });
    return response.ok ? await response.text() : "";
  } catch {
    return "";
  }
}
