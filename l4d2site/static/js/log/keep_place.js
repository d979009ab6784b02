// Change what is around `row` while it stays in place on the screen, as far as `log` can be scrolled.
export function keepPlace(log, row, change) {
  const before = row?.getBoundingClientRect().top;
  change();
  if (row?.isConnected) log.scrollTop += row.getBoundingClientRect().top - before;
}
