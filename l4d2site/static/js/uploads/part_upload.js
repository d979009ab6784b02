// One part on its way: the options for tus-js-client, which answers end it, and what the panel then says.

import { fill, gettext } from "../words.js";

const LOST = gettext("The panel did not answer while %(path)s was sent. What has arrived is kept.");
const ONE_REQUEST_BYTES = 1024 ** 2;
// For two minutes: a panel that restarts is back within seconds, and is then not kept waiting.
const RETRY_MS = [0, 500, 1_000, 2_000, ...Array(40).fill(3_000)];
// After one of these, the same request would get the same answer until somebody signs in again or makes room.
const CURABLE = [401, 507];
const FINAL = [400, 403, 404, 405, 410, 412, 413, 415, 422];

// `handlers` are `onProgress` with the bytes sent, `onSuccess` and `onError`.
export function startUpload(part, address, handlers) {
  part.upload = new window.tus.Upload(part.content, {
    endpoint: address,
    uploadUrl: part.url ?? null,
    metadata: {
      path: part.path,
      modified: String(part.modified),
      ...(part.isBundle ? { bundle: "1" } : {}),
    },
    retryDelays: RETRY_MS,
    storeFingerprintForResuming: false,
    uploadDataDuringCreation: part.size > 0 && part.size <= ONE_REQUEST_BYTES,
    onShouldRetry: (error) => ![...CURABLE, ...FINAL].includes(statusOf(error)),
    ...handlers,
  });
  part.upload.start();
}

export const isFinal = (error) => FINAL.includes(statusOf(error));

// The panel answers in plain text; a page comes from something in front of it.
export function describeFault(part, { originalResponse: response }) {
  const isSaid = response?.getHeader("Content-Type")?.startsWith("text/plain");
  return (isSaid && response.getBody().trim()) || fill(LOST, { path: part.label ?? part.path });
}

function statusOf(error) {
  return error.originalResponse?.getStatus();
}
