'use strict';
// Draws a frame: all parts in their order, from the ground up, on the one canvas.
//
// A frame is drawn when something changed, at most once for each frame of the screen.

const canvasState = { isAsked: false, pen: null };

/** Asks for a frame. */
function redraw() {
  if (canvasState.isAsked) return;
  canvasState.isAsked = true;
  requestAnimationFrame(() => {
    canvasState.isAsked = false;
    drawNow(app);
  });
}

/** Gives the canvas the size of its place, in the pixels of the screen. */
function resizeCanvas(app) {
  const canvas = part('canvas');
  const { view } = app;
  view.width = Math.max(part('stage').clientWidth, 50);
  view.height = Math.max(part('board').clientHeight, 100);
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(view.height * ratio);
  canvas.style.width = `${view.width}px`;
  canvas.style.height = `${view.height}px`;
  canvasState.pen = canvas.getContext('2d', { alpha: false });
  canvasState.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
}

/** Draws a frame and says how long it took. */
function drawNow(app) {
  const begun = performance.now();
  const { pen } = canvasState;
  const { view } = app;
  const axis = axisOf(view);
  pen.fillStyle = ink.back;
  pen.fillRect(0, 0, view.width, view.height);
  pen.save();
  pen.beginPath();
  pen.rect(0, view.head, view.width, view.height - view.head);
  pen.clip();
  drawGround(pen, app);
  drawGrid(pen, app, axis);
  drawFaults(pen, app);
  const messages = drawMessages(pen, app);
  drawLanes(pen, app);
  const inView = drawEvents(pen, app);
  drawPastVeil(pen, app);
  drawMatches(pen, app);
  drawChosenMessages(pen, app);
  pen.restore();
  drawOverview(pen, app);
  drawAxis(pen, app, axis);
  drawFaultNames(pen, app);
  drawMoments(pen, app);
  const took = performance.now() - begun;
  facts.drawn = took.toFixed(2);
  sayDrawn(inView, messages, took);
}

/** The violation and the cursor, and rings around their events. */
function drawMoments(pen, app) {
  const { run, cursor } = app;
  const wrong = run.verdict ? run.verdict.event : NONE;
  if (wrong !== NONE) drawFlag(pen, app, run.at[wrong], ink.violation, 'violation', { evade: cursor.at });
  drawFlag(pen, app, cursor.at, ink.text, inSeconds(cursor.at), { isDashed: true });
  pen.save();
  pen.beginPath();
  pen.rect(0, app.view.head, app.view.width, app.view.height);
  pen.clip();
  if (wrong !== NONE) drawRing(pen, app, wrong, ink.violation, 8);
  if (cursor.event !== NONE) drawRing(pen, app, cursor.event, ink.accent, 5.5);
  pen.restore();
}

/** Says what was drawn, below the time line. */
function sayDrawn(inView, messages, took) {
  const time = took < 1 ? 'less than 1 ms' : `${Math.round(took)} ms`;
  const parts = [`${counted(inView, 'event', 'events')} in view`];
  parts.push(
    messages.drawn === messages.crossing
      ? counted(messages.crossing, 'message', 'messages')
      : `${inDigits(messages.drawn)} of ${inDigits(messages.crossing)} messages drawn`,
  );
  parts.push(`drawn in ${time}`);
  say(part('drawn-line'), parts.join(' · '));
}
