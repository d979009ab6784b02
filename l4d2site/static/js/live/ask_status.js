// Finds out why a stream does not start, which an EventSource does not say: the status of the answer, 0 if there is
// none; how long it asks to wait; and its reason for people.
export async function askStatus(address, signal) {
  const enough = new AbortController();
  signal.addEventListener("abort", () => enough.abort());
  const headers = { Accept: "text/plain" };
  try {
    const response = await fetch(address, { headers, signal: enough.signal, cache: "no-store" });
    // If the answer is the stream after all, it has no end.
    const reason = response.ok ? "" : (await response.text()).trim();
    return {
      status: response.status,
      retryMs: Number(response.headers.get("Retry-After")) * 1_000,
      reason,
    };
  } catch {
    return { status: 0, retryMs: 0, reason: "" };
  } finally {
    enough.abort();
  }
}
