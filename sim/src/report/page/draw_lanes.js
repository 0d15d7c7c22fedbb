'use strict';
// Draws the lanes below their events: their ground, the faults over them, the role and term of each node as
// a band, its leader epochs and its indexes.
//
// Stretches narrower than two pixels are drawn last and at two pixels, so that a short candidacy is still
// seen when the whole run is in view; of those at the same pixel only one is drawn.

const LETTER_WIDTH = 6.1;
const BAND_FONT = '600 11px system-ui, sans-serif';
const SMALL_FONT = '9px system-ui, sans-serif';
const WIDE_FONT = '11px system-ui, sans-serif';

/** The ground of each lane, the chosen one marked. */
function drawGround(pen, app) {
  const { view } = app;
  view.rows.forEach((row, lane) => {
    const top = view.head - view.scroll + row.top;
    pen.fillStyle = lane === app.cursor.lane ? ink['lane-chosen'] : ink['lane-back'];
    pen.fillRect(0, top, view.width, row.height);
    pen.fillStyle = ink.line;
    pen.fillRect(0, top + row.height - 1, view.width, 1);
  });
}

/** The faults in view, as a tint over the lanes that they touch. */
function drawFaults(pen, app) {
  const { run, view } = app;
  for (const fault of run.faults) {
    if (fault.begins > view.to || fault.ends < view.from) continue;
    const left = Math.max(placeOf(view, fault.begins), -1);
    const right = Math.min(placeOf(view, fault.ends), view.width + 1);
    pen.fillStyle = ink.faults[fault.colour];
    pen.globalAlpha = 0.16;
    for (const lane of fault.lanes) {
      const row = view.rows[lane];
      if (row) pen.fillRect(left, view.head - view.scroll + row.top, Math.max(right - left, 1), row.height - 1);
    }
  }
  pen.globalAlpha = 1;
}

/** Calls `draw` with each stretch in view: its place among the states, its left and its right. */
function eachStretch(app, stretch, draw) {
  const { view, run } = app;
  const first = Math.max(firstAfter(stretch.at, view.from) - 1, 0);
  for (let i = first; i < stretch.at.length && stretch.at[i] <= view.to; i += 1) {
    const ends = i + 1 < stretch.at.length ? stretch.at[i + 1] : run.end;
    const left = placeOf(view, stretch.at[i]);
    draw(stretch.place[i], Math.max(left, -2), Math.min(placeOf(view, ends), view.width + 2), left < 0);
  }
}

/** The band of a lane: the colour is the role, its shade changes with the term. */
function drawBand(pen, app, lane) {
  const row = app.view.rows[lane.index];
  const top = app.view.head - app.view.scroll + row.band.top;
  const { role, term } = lane.states;
  const narrow = [];
  eachStretch(app, lane.states.bands, (place, left, right) => {
    if (right - left < 2) {
      narrow.push({ place, left: Math.floor(left) });
      return;
    }
    pen.fillStyle = role[place] === 0 ? ink.hatched : ink.roles[role[place]][Math.abs(term[place]) % 2];
    pen.fillRect(left, top, right - left, row.band.height);
    pen.fillStyle = ink['lane-back'];
    pen.fillRect(left, top, 1, row.band.height);
    labelBand(pen, lane.states, place, left, right, top + row.band.height / 2 + 4);
  });
  let drawn = '';
  for (const { place, left } of narrow) {
    if (drawn === `${left} ${role[place]}`) continue;
    drawn = `${left} ${role[place]}`;
    pen.fillStyle = ink.roles[role[place]][0];
    pen.fillRect(left, top, 2, row.band.height);
  }
}

/** Writes role and term into a stretch: in full, or short, or the letter alone, or nothing. */
function labelBand(pen, states, place, left, right, base) {
  const role = states.role[place];
  const from = Math.max(left, 0) + 5;
  const room = Math.min(right, app.view.width) - from - 2;
  const term = states.term[place] >= 0 && role !== 0 ? states.term[place] : null;
  const texts = [ROLES[role], ROLE_LETTERS[role]];
  if (term !== null) texts.unshift(`${ROLES[role]}, term ${term}`, `${ROLE_LETTERS[role]} ${term}`);
  const text = texts.find((candidate) => candidate.length * LETTER_WIDTH <= room);
  if (text === undefined || (texts.length === 2 && text.length * LETTER_WIDTH > room)) return;
  pen.fillStyle = ink.roleTexts[role];
  pen.font = BAND_FONT;
  pen.fillText(text, from, base);
}

/** The epochs of a lane, as the ground of its chart: every other one is darker, and begins with a line. */
function drawEpochs(pen, app, lane) {
  const { chart } = app.view.rows[lane.index];
  const top = app.view.head - app.view.scroll + chart.top;
  let lastText = -100;
  eachStretch(app, lane.states.epochs, (place, left, right, isCut) => {
    const epoch = lane.states.epoch[place];
    if (epoch < 0) return;
    if (epoch % 2 === 1) {
      pen.fillStyle = ink['epoch-odd'];
      pen.fillRect(left, top, right - left, chart.height);
    }
    pen.fillStyle = ink.quiet;
    if (!isCut) pen.fillRect(left, top, 1, chart.height);
    const from = Math.max(left, 0) + 3;
    const text = right - from > 52 ? `epoch ${epoch}` : `e${epoch}`;
    if (right - from < text.length * 5 + 2 || from < lastText) return;
    lastText = from + text.length * 5;
    pen.font = SMALL_FONT;
    pen.fillText(text, from, top + 8);
  });
}

const INDEXES = ['applied', 'commit', 'high_watermark'];

/** How wide the steps of a chart are: a pixel, or two if there are more states than that in view. */
function chartStep(app, lanes) {
  const { view } = app;
  const most = lanes.reduce((max, { states }) => {
    return Math.max(max, firstAfter(states.at, view.to) - firstAfter(states.at, view.from));
  }, 0);
  return most > view.width / 2 ? 2 : 1;
}

/** What each index is at each step of a lane: at most one look by halving for each, however many states. */
function sampleIndexes(app, states, step) {
  const { view } = app;
  const count = Math.ceil(view.width / step);
  const samples = INDEXES.map(() => new Float64Array(count).fill(NONE));
  const sources = INDEXES.map((name) => states[name]);
  const { at, role } = states;
  let place = 0;
  for (let i = 0; i < count; i += 1) {
    const moment = momentAt(view, (i + 0.5) * step);
    if (moment > app.run.end) break;
    if (place < at.length && at[place] <= moment) place = firstAfter(at, moment, place + 1);
    if (place === 0 || role[place - 1] === 0) continue;
    for (let index = 0; index < samples.length; index += 1) samples[index][i] = sources[index][place - 1];
  }
  return samples;
}

/** The least and the most of some samples, over all lanes, so that lanes can be compared. */
function rangeOf(lists) {
  let least = Infinity;
  let most = -Infinity;
  for (const list of lists) {
    for (const value of list) {
      if (value < 0) continue;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  }
  return { least, most: Math.max(most, least + 1) };
}

/** Draws one index of one lane as steps; as an area down to the bottom if it is filled. */
function drawSteps(pen, samples, step, range, { top, height }, isFilled) {
  const bottom = top + height;
  const heightOf = (value) => bottom - 1 - ((value - range.least) / (range.most - range.least)) * (height - 3);
  pen.beginPath();
  let last = NONE;
  for (let i = 0; i <= samples.length; i += 1) {
    const value = i < samples.length ? samples[i] : NONE;
    if (value === last) continue;
    const x = i * step;
    if (last >= 0) pen.lineTo(x, heightOf(last));
    if (isFilled && value < 0) pen.lineTo(x, bottom);
    if (value >= 0 && last < 0) pen.moveTo(x, isFilled ? bottom : heightOf(value));
    if (value >= 0) pen.lineTo(x, heightOf(value));
    last = value;
  }
  if (isFilled) pen.fill();
  else pen.stroke();
}

/** The charts of all lanes: applied as an area, commit as a line on it, the high watermark as another. */
function drawCharts(pen, app) {
  const { view } = app;
  const lanes = app.run.lanes.filter((lane) => lane.states !== null);
  const step = chartStep(app, lanes);
  const all = lanes.map((lane) => sampleIndexes(app, lane.states, step));
  const log = rangeOf(all.flatMap((samples) => [samples[0], samples[1]]));
  const records = rangeOf(all.map((samples) => samples[2]));
  lanes.forEach((lane, i) => {
    const { chart } = view.rows[lane.index];
    const box = { top: view.head - view.scroll + chart.top, height: chart.height };
    drawEpochs(pen, app, lane);
    pen.fillStyle = ink.applied;
    drawSteps(pen, all[i][0], step, log, box, true);
    pen.lineWidth = 1;
    pen.strokeStyle = ink.commit;
    drawSteps(pen, all[i][1], step, log, box, false);
    pen.lineWidth = 1.5;
    pen.strokeStyle = ink.watermark;
    drawSteps(pen, all[i][2], step, records, box, false);
  });
}

/** Everything of the lanes that lies below messages and events. */
function drawLanes(pen, app) {
  drawCharts(pen, app);
  for (const lane of app.run.lanes) if (lane.states !== null) drawBand(pen, app, lane);
}
