// What is the matter with a stream that does not begin, which an EventSource keeps to itself: the status of the
// answer, 0 for none; how long it asks to wait; and what it says for people.
export async function askStatus(address, signal) {
  const enough = new AbortController();
  signal.addEventListener("abort", () => enough.abort());
  const headers = { Accept: "text/plain" };
  try {
    const response = await fetch(address, { headers, signal: enough.signal, cache: "no-store" });
    // An answer that is the stream after all has no end.
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
