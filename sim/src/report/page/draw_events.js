'use strict';
// Draws the events of the lanes: signs and texts where there is room, ticks where there is less, and columns
// as high as there are many where there are more events than pixels.
//
// The cost follows the pixels, never the events: a lane in columns takes one look by halving for each column.

const COLUMN = 2;
const TEXT_FONT = '10px ui-monospace, "DejaVu Sans Mono", monospace';
const TEXT_WIDTH = 6.03;
/** Fewer events than this in view, for each lane, have signs; fewer than the next have ticks. */
const SIGN_ROOM = 9;
const TICK_ROOM = 2.5;
const TEXT_ROOM = 46;

/** The events of all lanes. */
function drawEvents(pen, app) {
  let inView = 0;
  for (const lane of app.run.lanes) inView += drawLaneEvents(pen, app, lane);
  return inView;
}

/** The events of a lane, each sort of drawing for its density; returns how many are in view. */
function drawLaneEvents(pen, app, lane) {
  const { view } = app;
  const low = firstNotBefore(lane.times, view.from);
  const high = firstAfter(lane.times, view.to);
  const row = view.rows[lane.index];
  const top = view.head - view.scroll + row.ticks.top;
  if (high === low || top > view.height || top + row.ticks.height < view.head) return high - low;
  const room = view.width / (high - low);
  if (room >= SIGN_ROOM) drawSigns(pen, app, lane, low, high, top, row.ticks.height);
  else if (room >= TICK_ROOM) drawTicks(pen, app, lane, low, high, top, row.ticks.height);
  else drawColumns(pen, app, lane, low, high, top, row.ticks.height);
  return high - low;
}

/** How many events make a column of full height: four times as many as the lane has in one on average. */
function fullColumn(app, lane) {
  const { view, run } = app;
  return Math.max(6, (4 * COLUMN * lane.events.length * (view.to - view.from)) / (view.width * run.end));
}

/** As many events as there are in each column of pixels, on a scale of powers. */
function drawColumns(pen, app, lane, low, high, top, height) {
  const { view } = app;
  const full = Math.log2(fullColumn(app, lane) + 1);
  pen.fillStyle = ink.column;
  let rank = low;
  for (let left = 0; left < view.width && rank < high; left += COLUMN) {
    const next = firstNotBefore(lane.times, momentAt(view, left + COLUMN), rank, high);
    if (next === rank) {
      // An empty stretch is skipped in one step.
      left += Math.max(0, Math.floor((placeOf(view, lane.times[rank]) - left) / COLUMN) - 1) * COLUMN;
      continue;
    }
    const tall = limited((Math.log2(next - rank + 1) / full) * height, 3, height);
    pen.fillRect(left, top + height - tall, COLUMN, tall);
    rank = next;
  }
}

function drawTicks(pen, app, lane, low, high, top, height) {
  pen.fillStyle = ink.tick;
  let drawn = -1;
  for (let rank = low; rank < high; rank += 1) {
    const left = Math.round(placeOf(app.view, lane.times[rank]));
    if (left === drawn) continue;
    drawn = left;
    pen.fillRect(left, top + 1, 1, height - 2);
  }
}

/** A sign for each moment at which something happened, and the text of the first event, cut to its room. */
function drawSigns(pen, app, lane, low, high, top, height) {
  const { view, run } = app;
  pen.font = TEXT_FONT;
  let rank = low;
  while (rank < high) {
    const moment = lane.times[rank];
    const next = firstAfter(lane.times, moment, rank, high);
    const left = placeOf(view, moment);
    const until = next < high ? placeOf(view, lane.times[next]) : view.width + 60;
    drawSign(pen, run.kinds[run.kind[lane.events[rank]]], left, top + height / 2);
    if (until - left > TEXT_ROOM) {
      const more = next - rank > 1 ? `+${next - rank - 1} ` : '';
      const letters = Math.floor((until - left - 14) / TEXT_WIDTH);
      const text = shortened(more + run.strings[run.text[lane.events[rank]]], letters);
      writeOver(pen, text, left + 6, top + height / 2, lane.index === app.cursor.lane);
    }
    rank = next;
  }
}

/** Writes a text over what was drawn before, which fades behind it. */
function writeOver(pen, text, left, middle, isChosen) {
  pen.fillStyle = isChosen ? ink['lane-chosen'] : ink['lane-back'];
  pen.globalAlpha = 0.8;
  pen.fillRect(left - 1, middle - 6, text.length * TEXT_WIDTH + 2, 12);
  pen.globalAlpha = 1;
  pen.fillStyle = ink.quiet;
  pen.fillText(text, left, middle + 3.5);
}

function shortened(text, letters) {
  return text.length <= letters ? text : `${text.slice(0, Math.max(letters - 1, 0))}…`;
}

/** The sign of a kind of event; its form tells the kind, for colours may not. */
function drawSign(pen, kind, x, y) {
  pen.fillStyle = kind === 'fault' || kind === 'start' || kind === 'outcome' ? ink.special : ink.tick;
  pen.strokeStyle = pen.fillStyle;
  pen.lineWidth = 1.5;
  pen.beginPath();
  if (kind === 'sent') polygon(pen, x, y, [[-2, -4], [4, 0], [-2, 4]]);
  else if (kind === 'arrived') polygon(pen, x, y, [[-4, -3], [4, -3], [0, 4]]);
  else if (kind === 'fault' || kind === 'start') polygon(pen, x, y, [[0, -4.5], [4.5, 0], [0, 4.5], [-4.5, 0]]);
  else if (kind === 'output') pen.rect(x - 1, y - 4, 2, 8);
  else if (kind === 'outcome') pen.rect(x - 3, y - 3, 6, 6);
  else pen.arc(x, y, kind === 'timeout' ? 3 : 2.5, 0, Math.PI * 2);
  if (kind === 'timeout') pen.stroke();
  else pen.fill();
}

function polygon(pen, x, y, corners) {
  corners.forEach(([right, down], i) => {
    if (i === 0) pen.moveTo(x + right, y + down);
    else pen.lineTo(x + right, y + down);
  });
  pen.closePath();
}

/** Hides what is not in the causal past: in each lane, all after its last event. */
function drawPastVeil(pen, app) {
  const { view, run, past } = app;
  if (!past) return;
  pen.fillStyle = ink.back;
  pen.globalAlpha = 0.78;
  run.lanes.forEach((lane) => {
    const row = view.rows[lane.index];
    const last = past.last[lane.index];
    const left = last === NONE ? 0 : limited(placeOf(view, run.at[last]) + 3, 0, view.width);
    pen.fillRect(left, view.head - view.scroll + row.top, view.width - left, row.height - 1);
  });
  pen.globalAlpha = 1;
}

/** A small triangle over each match, one for every few pixels. */
function drawMatches(pen, app) {
  const { view, found } = app;
  pen.fillStyle = ink.match;
  found.byLane.forEach((times, lane) => {
    const row = view.rows[lane];
    const top = view.head - view.scroll + row.ticks.top;
    let rank = firstNotBefore(times, view.from);
    const high = firstAfter(times, view.to);
    pen.beginPath();
    while (rank < high) {
      const x = placeOf(view, times[rank]);
      polygon(pen, x, top, [[-3.5, -2], [3.5, -2], [0, 4]]);
      pen.rect(x - 0.5, top, 1, row.ticks.height);
      rank = firstNotBefore(times, momentAt(view, x + 3), rank + 1, high);
    }
    pen.fill();
  });
}

/** A ring around an event. */
function drawRing(pen, app, event, colour, radius) {
  const { view, run } = app;
  const x = placeOf(view, run.at[event]);
  if (x < -10 || x > view.width + 10) return;
  pen.lineWidth = 2;
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.arc(x, middleOf(view, run.lane[event]), radius, 0, Math.PI * 2);
  pen.stroke();
}
