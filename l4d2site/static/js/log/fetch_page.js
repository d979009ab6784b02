// Return the page at `address`, with its log.
export async function fetchPage(address) {
  const headers = { "X-Saferoom-Refresh": "log" };
  const response = await fetch(address, { headers, redirect: "error", cache: "no-store" });
  if (!response.ok) throw new Error(`${address} was answered with ${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}
