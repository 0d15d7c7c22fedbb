'use strict';
// The pointer: drag moves the view, the wheel zooms around the pointer, a click sets the cursor, and what is
// under the pointer is shown next to it. The strip at the top is clicked or dragged to move far.

const CLICK_REACH = 8;
const HOVER_REACH = 6;

const drag = { isDown: false, isOverview: false, hasMoved: false, x: 0, y: 0 };

function startPointer() {
  const canvas = part('canvas');
  canvas.addEventListener('pointerdown', onDown);
  canvas.addEventListener('pointermove', onMove);
  canvas.addEventListener('pointerup', onUp);
  canvas.addEventListener('pointercancel', () => { drag.isDown = false; });
  canvas.addEventListener('pointerleave', () => { part('tip').hidden = true; });
  canvas.addEventListener('wheel', onWheel, { passive: false });
}

function onDown(event) {
  if (event.button !== 0) return;
  Object.assign(drag, { isDown: true, hasMoved: false, x: event.offsetX, y: event.offsetY });
  drag.isOverview = event.offsetY < OVERVIEW_HEIGHT;
  event.target.setPointerCapture(event.pointerId);
  part('tip').hidden = true;
  if (drag.isOverview) moveTo(event.offsetX);
}

/** Moves the view so that its middle is where the strip of the whole run was clicked. */
function moveTo(x) {
  const { view, run } = app;
  const moment = momentAt({ ...wholeRun(run), width: view.width }, x);
  const length = view.to - view.from;
  changeStretch(moment - length / 2, moment + length / 2);
}

function onMove(event) {
  if (!drag.isDown) {
    showTip(event);
    return;
  }
  if (drag.isOverview) {
    moveTo(event.offsetX);
    return;
  }
  const right = event.offsetX - drag.x;
  const down = event.offsetY - drag.y;
  if (!drag.hasMoved && Math.hypot(right, down) < 4) return;
  Object.assign(drag, { hasMoved: true, x: event.offsetX, y: event.offsetY });
  part('board').scrollTop -= down;
  pan(-right / app.view.width);
}

function onUp(event) {
  const wasClick = drag.isDown && !drag.hasMoved && !drag.isOverview;
  drag.isDown = false;
  if (wasClick) onClick(event.offsetX, event.offsetY);
}

/** Puts the cursor where the click was, or on the event that is close. */
function onClick(x, y) {
  const lane = laneAt(app.view, y);
  const chosen = lane === NONE ? app.cursor.lane : lane;
  const event = eventNear(app, chosen, x, CLICK_REACH);
  if (event !== NONE) moveCursor(app.run.at[event], chosen, event);
  else moveCursor(momentAt(app.view, x), chosen);
}

/** The event of a lane that is nearest to a place, within a reach in pixels. */
function eventNear(app, lane, x, reach) {
  const { run, view } = app;
  const { times, events } = run.lanes[lane];
  const after = firstNotBefore(times, momentAt(view, x));
  let nearest = NONE;
  let distance = reach;
  for (const rank of [after - 1, after]) {
    if (rank < 0 || rank >= times.length) continue;
    const away = Math.abs(placeOf(view, times[rank]) - x);
    if (away > distance) continue;
    distance = away;
    // Of several events at the same moment the first is taken; brackets step to the others.
    nearest = events[firstNotBefore(times, times[rank])];
  }
  return nearest;
}

function onWheel(event) {
  if (event.altKey) return;
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 16 : 1;
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    pan((sideways * unit) / app.view.width);
    return;
  }
  const speed = event.ctrlKey ? 0.01 : 0.0022;
  zoom(Math.exp(limited(event.deltaY * unit, -300, 300) * speed), momentAt(app.view, event.offsetX));
}

/** Shows what is under the pointer: an event, or a fault by its name. */
function showTip(event) {
  const tip = part('tip');
  const text = textUnder(app, event.offsetX, event.offsetY);
  tip.hidden = text === '';
  if (text === '') return;
  say(tip, text);
  const isRight = event.clientX > window.innerWidth / 2;
  tip.style.left = isRight ? 'auto' : `${event.clientX + 14}px`;
  tip.style.right = isRight ? `${window.innerWidth - event.clientX + 14}px` : 'auto';
  tip.style.top = `${event.clientY + 16}px`;
}

function textUnder(app, x, y) {
  const { run, view } = app;
  if (y < view.head) return faultUnder(app, x, y);
  const lane = laneAt(view, y);
  const near = lane === NONE ? NONE : eventNear(app, lane, x, HOVER_REACH);
  if (near === NONE) return '';
  const { events, times } = run.lanes[lane];
  const first = run.rank[near];
  const last = firstAfter(times, times[first]);
  const some = events.subarray(first, Math.min(last, first + 6));
  const lines = Array.from(some, (event) => kindAndText(run, event));
  if (last - first > 6) lines.push(`and ${last - first - 6} more`);
  return [inSeconds(run.at[near]), ...lines].join('\n');
}

function faultUnder(app, x, y) {
  const row = Math.floor((y - OVERVIEW_HEIGHT - AXIS_HEIGHT) / FAULT_ROW);
  const moment = momentAt(app.view, x);
  const slack = ((app.view.to - app.view.from) / app.view.width) * 2;
  const isHere = (fault) => fault.begins - slack <= moment && fault.ends + slack >= moment;
  return app.run.faults
    .filter((fault) => fault.row === row && isHere(fault))
    .slice(0, 5)
    .map((fault) => `${fault.kind}: ${fault.text}\n${inSeconds(fault.begins)} to ${inSeconds(fault.ends)}`)
    .join('\n');
}
