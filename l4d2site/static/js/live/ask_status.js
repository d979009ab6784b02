// Return the status with which `address` is answered, which an EventSource keeps to itself; 0 for no answer.
export async function askStatus(address, signal) {
  const enough = new AbortController();
  signal.addEventListener("abort", () => enough.abort());
  try {
    const response = await fetch(address, { signal: enough.signal, cache: "no-store" });
    return response.status;
  } catch {
    return 0;
  } finally {
    enough.abort();
  }
}
