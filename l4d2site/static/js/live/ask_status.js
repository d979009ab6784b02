// Return the status with which `address` is answered, which an EventSource keeps to itself, 0 for no answer, and
// how long the answer asks to wait.
export async function askStatus(address, signal) {
  const enough = new AbortController();
  signal.addEventListener("abort", () => enough.abort());
  try {
    const response = await fetch(address, { signal: enough.signal, cache: "no-store" });
    return { status: response.status, retryMs: Number(response.headers.get("Retry-After")) * 1_000 };
  } catch {
    return { status: 0, retryMs: 0 };
  } finally {
    enough.abort();
  }
}
