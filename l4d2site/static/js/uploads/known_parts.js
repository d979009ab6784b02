// Parts with what the server already has of them, which it finds by path, size and time.

export function joinKnown(parts, known) {
  return parts.map((part) => {
    const same = known.find(
      (one) => one.path === part.path && one.size === part.size && one.modified === part.modified,
    );
    const isReceived = same?.is_received ?? false;
    return { ...part, url: same?.url, isReceived, sent: isReceived ? part.size : 0 };
  });
}
