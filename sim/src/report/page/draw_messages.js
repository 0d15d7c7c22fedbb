'use strict';
// Draws the messages: a line from where and when each was sent to where and when it arrived.
//
// A lost one ends half way, with a cross. A second copy has a ring half way. One that is still under way at
// the end is dashed and has no head. Lines of a sort are drawn together, some hundreds at a time.

const LINES_AT_ONCE = 200;
const HEADS_MOST = 700;
const CROSSES_MANY = 150;

/** The messages in view; returns how many of how many were drawn. */
function drawMessages(pen, app) {
  const { run, flights, view } = app;
  const { places, crossing } = messagesBetween(run, flights, view.from, view.to, app.past);
  const sorts = [[], [], [], []];
  for (const place of places) {
    const message = flights.order[place];
    sorts[isLost(run, message) ? FATE_LOST : run.messages.fate[message]].push(lineOf(app, message));
  }
  const strength = limited(260 / Math.max(places.length, 1), 0.16, 0.8);
  const hasHeads = places.length <= HEADS_MOST;
  drawSort(pen, sorts[FATE_ARRIVED], ink.message, strength, { hasHeads });
  drawSort(pen, sorts[FATE_UNDER_WAY], ink.message, strength, { isDashed: true });
  drawSort(pen, sorts[FATE_DOUBLED], ink.doubled, Math.max(strength, 0.4), { hasHeads, hasRings: hasHeads });
  drawSort(pen, sorts[FATE_LOST], ink.lost, Math.max(strength, 0.45), { hasCrosses: true });
  return { drawn: places.length, crossing };
}

/** The line of a message. A lost one gets half of the way. */
function lineOf(app, message) {
  const { run, flights, view } = app;
  const from = run.messages.from[message];
  const line = {
    x: placeOf(view, run.at[from]),
    y: middleOf(view, run.lane[from]),
    toX: placeOf(view, endOfFlight(run, flights.typical, message)),
    toY: middleOf(view, run.messages.lane[message]),
  };
  if (!isLost(run, message)) return line;
  return { ...line, toX: (line.x + line.toX) / 2, toY: (line.y + line.toY) / 2 };
}

function drawSort(pen, lines, colour, strength, marks) {
  if (lines.length === 0) return;
  pen.globalAlpha = strength;
  pen.strokeStyle = colour;
  pen.fillStyle = colour;
  pen.lineWidth = 1;
  if (marks.isDashed) pen.setLineDash([4, 3]);
  for (let i = 0; i < lines.length; i += LINES_AT_ONCE) {
    drawLines(pen, lines.slice(i, i + LINES_AT_ONCE));
  }
  pen.setLineDash([]);
  pen.globalAlpha = Math.max(strength, 0.6);
  if (marks.hasHeads) drawHeads(pen, lines);
  if (marks.hasCrosses) drawCrosses(pen, lines);
  if (marks.hasRings) drawRings(pen, lines);
  pen.globalAlpha = 1;
}

/** Lines, each cut to what is near the view: far ends cost time and precision. */
function drawLines(pen, lines) {
  const least = -20;
  const most = app.view.width + 20;
  pen.beginPath();
  for (const { x, y, toX, toY } of lines) {
    const slope = toX === x ? 0 : (toY - y) / (toX - x);
    const from = limited(x, least, most);
    const to = limited(toX, least, most);
    pen.moveTo(from, y + (from - x) * slope);
    pen.lineTo(to, toY + (to - toX) * slope);
  }
  pen.stroke();
}

/** The heads of arrows; they stop a little before the sign of the arrival. */
function drawHeads(pen, lines) {
  pen.beginPath();
  for (const { x, y, toX, toY } of lines) {
    if (toX < -10 || toX > app.view.width + 10) continue;
    const length = Math.hypot(toX - x, toY - y) || 1;
    const right = (toX - x) / length;
    const down = (toY - y) / length;
    const tipX = toX - right * 4;
    const tipY = toY - down * 4;
    pen.moveTo(tipX, tipY);
    pen.lineTo(tipX - right * 7 - down * 2.8, tipY - down * 7 + right * 2.8);
    pen.lineTo(tipX - right * 7 + down * 2.8, tipY - down * 7 - right * 2.8);
  }
  pen.fill();
}

function drawCrosses(pen, lines) {
  const reach = lines.length > CROSSES_MANY ? 2 : 3;
  pen.lineWidth = lines.length > CROSSES_MANY ? 1 : 1.5;
  pen.beginPath();
  for (const { toX, toY } of lines) {
    pen.moveTo(toX - reach, toY - reach);
    pen.lineTo(toX + reach, toY + reach);
    pen.moveTo(toX - reach, toY + reach);
    pen.lineTo(toX + reach, toY - reach);
  }
  pen.stroke();
}

function drawRings(pen, lines) {
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const { x, y, toX, toY } of lines) {
    pen.moveTo((x + toX) / 2 + 3, (y + toY) / 2);
    pen.arc((x + toX) / 2, (y + toY) / 2, 3, 0, Math.PI * 2);
  }
  pen.stroke();
}

/** The messages that the chosen event sent and that arrived with it, over all else. */
function drawChosenMessages(pen, app) {
  const { run, cursor } = app;
  if (cursor.event === NONE) return;
  const messages = [...run.messages.arrived.of(cursor.event), ...run.messages.sent.of(cursor.event)];
  const hasArrived = (message) => run.messages.to[message] !== NONE;
  const linesOf = (some) => some.map((message) => lineOf(app, message));
  const lost = linesOf(messages.filter((message) => isLost(run, message)));
  const others = linesOf(messages.filter((message) => !isLost(run, message)));
  for (const [lines, colour] of [[others, ink.accent], [lost, ink.lost]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    drawLines(pen, lines);
  }
  drawCrosses(pen, lost);
  pen.fillStyle = ink.accent;
  drawHeads(pen, linesOf(messages.filter(hasArrived)));
}
