'use strict';
// Draws the head of the time line: the whole run in small with the part in view, the axis of time, and a row
// or more of named faults.
//
// How many events each pixel of the small run holds is counted once for each width.

const overview = { width: 0, counts: null };

/** How many events fall on each pixel of the whole run. */
function countOverview(app, width) {
  if (overview.width === width) return overview.counts;
  const { run } = app;
  const whole = wholeRun(run);
  const counts = new Int32Array(Math.ceil(width) + 1);
  for (let event = 0; event < run.count; event += 1) {
    counts[Math.floor(((run.at[event] - whole.from) / (whole.to - whole.from)) * width)] += 1;
  }
  overview.width = width;
  overview.counts = counts;
  return counts;
}

/** The whole run, with a frame around the part in view. */
function drawOverview(pen, app) {
  const { run, view } = app;
  const all = { ...wholeRun(run), width: view.width };
  const counts = countOverview(app, view.width);
  const most = counts.reduce((a, b) => Math.max(a, b), 1);
  pen.fillStyle = ink['lane-back'];
  pen.fillRect(0, 0, view.width, OVERVIEW_HEIGHT);
  for (const fault of run.faults) {
    const left = placeOf(all, fault.begins);
    pen.fillStyle = ink.faults[fault.colour];
    pen.globalAlpha = 0.25;
    pen.fillRect(left, 0, Math.max(placeOf(all, fault.ends) - left, 1), OVERVIEW_HEIGHT);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = ink['tick-faint'];
  for (let column = 0; column < counts.length; column += 1) {
    if (counts[column] === 0) continue;
    const tall = Math.max(1, (Math.log2(counts[column] + 1) / Math.log2(most + 1)) * (OVERVIEW_HEIGHT - 3));
    pen.fillRect(column, OVERVIEW_HEIGHT - tall, 1, tall);
  }
  drawOverviewMarks(pen, app, all);
}

function drawOverviewMarks(pen, app, all) {
  const { run, view, cursor } = app;
  const mark = (moment, colour) => {
    pen.fillStyle = colour;
    pen.fillRect(Math.round(placeOf(all, moment)) - 1, 0, 2, OVERVIEW_HEIGHT);
  };
  if (run.verdict && run.verdict.event !== NONE) mark(run.at[run.verdict.event], ink.violation);
  mark(cursor.at, ink.text);
  const left = placeOf(all, view.from);
  const right = Math.max(placeOf(all, view.to), left + 2);
  if (isWhole(app)) return;
  pen.fillStyle = ink.window;
  pen.fillRect(0, 0, left, OVERVIEW_HEIGHT);
  pen.fillRect(right, 0, view.width - right, OVERVIEW_HEIGHT);
  pen.strokeStyle = ink.accent;
  pen.lineWidth = 1.5;
  pen.strokeRect(left, 0.75, right - left, OVERVIEW_HEIGHT - 1.5);
}

/** The distance of the marks of the axis: 1, 2 or 5 times a power of ten. */
function stepFor(length, most) {
  const least = length / most;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

/** The moments that the axis names, and how many digits they need. */
function axisOf(view) {
  const step = Math.max(stepFor(view.to - view.from, view.width / 90), 1);
  const digits = limited(Math.ceil(6 - Math.log10(step)), 0, 6);
  const moments = [];
  for (let i = Math.ceil(Math.max(view.from, 0) / step); i * step <= view.to; i += 1) moments.push(i * step);
  return { moments, digits };
}

/** The lines of the axis, through all lanes. */
function drawGrid(pen, app, axis) {
  pen.fillStyle = ink.grid;
  for (const moment of axis.moments) {
    pen.fillRect(Math.round(placeOf(app.view, moment)), app.view.head, 1, app.view.height);
  }
}

function drawAxis(pen, app, axis) {
  const { view } = app;
  pen.font = WIDE_FONT;
  for (const moment of axis.moments) {
    const x = Math.round(placeOf(view, moment));
    pen.fillStyle = ink.line;
    pen.fillRect(x, OVERVIEW_HEIGHT + 2, 1, AXIS_HEIGHT - 2);
    pen.fillStyle = ink.quiet;
    pen.fillText(`${(moment / 1e6).toFixed(axis.digits)} s`, x + 4, OVERVIEW_HEIGHT + 14);
  }
  pen.fillStyle = ink.line;
  pen.fillRect(0, view.head - 1, view.width, 1);
}

/** The faults by name, in rows; a name that has no room is left out. */
function drawFaultNames(pen, app) {
  const { run, view } = app;
  pen.font = WIDE_FONT;
  for (const fault of run.faults) {
    if (fault.begins > view.to || fault.ends < view.from) continue;
    const left = Math.max(placeOf(view, fault.begins), -2);
    const right = Math.min(placeOf(view, fault.ends), view.width + 2);
    const top = OVERVIEW_HEIGHT + AXIS_HEIGHT + fault.row * FAULT_ROW;
    pen.globalAlpha = 0.4;
    pen.fillStyle = ink.faults[fault.colour];
    pen.fillRect(left, top + 1, Math.max(right - left - 1, 1), FAULT_ROW - 2);
    pen.globalAlpha = 1;
    if (fault.isCovered) continue;
    const from = Math.max(left, 0) + 4;
    const letters = Math.floor((right - from - 3) / LETTER_WIDTH);
    const full = fault.text === '' ? fault.kind : `${fault.kind}: ${fault.text}`;
    pen.fillStyle = ink.text;
    if (letters >= 4) pen.fillText(shortened(full, Math.max(letters, 0)), from, top + 11.5);
  }
}

/** A line through all lanes with a flag on the axis; the flag stands beside `evade`, should that be close. */
function drawFlag(pen, app, moment, colour, text, { isDashed = false, evade = null }) {
  const { view } = app;
  const x = Math.round(placeOf(view, moment));
  if (x < -1 || x > view.width + 1) return;
  pen.strokeStyle = colour;
  pen.lineWidth = isDashed ? 1 : 2;
  pen.setLineDash(isDashed ? [3, 3] : []);
  pen.beginPath();
  pen.moveTo(x + (isDashed ? 0.5 : 0), OVERVIEW_HEIGHT + AXIS_HEIGHT);
  pen.lineTo(x + (isDashed ? 0.5 : 0), view.head + view.content - view.scroll);
  pen.stroke();
  pen.setLineDash([]);
  pen.font = BAND_FONT;
  const width = pen.measureText(text).width + 8;
  let left = limited(x - width / 2, 0, view.width - width);
  if (evade !== null) {
    const other = pen.measureText(inSeconds(evade)).width + 8;
    left = besideFlag(view, left, width, placeOf(view, evade), other);
  }
  pen.fillStyle = colour;
  pen.fillRect(left, OVERVIEW_HEIGHT + 3, width, AXIS_HEIGHT - 4);
  pen.fillStyle = ink.back;
  pen.fillText(text, left + 4, OVERVIEW_HEIGHT + 15);
}

/** Where a flag begins that must leave room for the flag of the cursor. */
function besideFlag(view, left, width, cursor, cursorWidth) {
  const taken = limited(cursor - cursorWidth / 2, 0, view.width - cursorWidth);
  if (left + width < taken || left > taken + cursorWidth) return left;
  const after = taken + cursorWidth + 2;
  return left + width / 2 >= cursor && after + width <= view.width ? after : taken - width - 2;
}
