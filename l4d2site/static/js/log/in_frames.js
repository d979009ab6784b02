// Return a function that plans a call of `draw` for the next frame, or for one after `pause` ms; one call at a time.
export function inFrames(draw) {
  let isPlanned = false;
  const run = () => {
    isPlanned = false;
    draw();
  };
  return function plan(pause = 0) {
    if (isPlanned) return;
    isPlanned = true;
    if (pause) setTimeout(() => requestAnimationFrame(run), pause);
    else requestAnimationFrame(run);
  };
}
