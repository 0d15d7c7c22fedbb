'use strict';
// What is shown: the run, the stretch of time in view, the place of each lane, the cursor, the filters.
//
// A moment becomes a place on the canvas here and nowhere else. Lanes share the height that there is; if
// they need more, they are scrolled.

const SHORTEST_VIEW = 20;
const THIN_LANE = 22;
const TALL_LANE_LEAST = 46;
const TALL_LANE_MOST = 96;
const OVERVIEW_HEIGHT = 20;
const AXIS_HEIGHT = 20;
const FAULT_ROW = 15;
const FAULT_ROWS_MOST = 3;

/** Everything that the page knows at a moment. */
const app = {
  run: null,
  flights: null,
  view: { from: 0, to: 1, width: 1, height: 1, scroll: 0, head: 0, rows: [], content: 0 },
  cursor: { at: 0, lane: 0, event: NONE },
  past: null,
  found: NOTHING_FOUND,
  listsAllLanes: false,
};

/** Where a moment is, in pixels from the left. */
function placeOf(view, moment) {
  return ((moment - view.from) / (view.to - view.from)) * view.width;
}

/** Which moment is at a place. */
function momentAt(view, place) {
  return view.from + (place / view.width) * (view.to - view.from);
}

/** The longest stretch that can be in view: the run, and a little room at both ends. */
function wholeRun(run) {
  const room = run.end * 0.01;
  return { from: -room, to: run.end + room };
}

/** Shows a stretch of time, as near to the wish as the limits allow. */
function showStretch(app, from, to) {
  const whole = wholeRun(app.run);
  const length = limited(to - from, SHORTEST_VIEW, whole.to - whole.from);
  const middle = (from + to) / 2;
  const begin = limited(middle - length / 2, whole.from, whole.to - length);
  app.view.from = begin;
  app.view.to = begin + length;
}

function isWhole(app) {
  const whole = wholeRun(app.run);
  return app.view.to - app.view.from >= (whole.to - whole.from) * 0.9999;
}

/** Gives each lane its place, below the head. */
function layOut(app) {
  const { run, view } = app;
  view.head = OVERVIEW_HEIGHT + AXIS_HEIGHT + run.faultRows * FAULT_ROW + (run.faultRows > 0 ? 3 : 0);
  const tall = run.lanes.filter((lane) => lane.states !== null).length;
  const room = view.height - view.head - (run.lanes.length - tall) * THIN_LANE - 2;
  const tallHeight = limited(Math.floor(room / Math.max(tall, 1)), TALL_LANE_LEAST, TALL_LANE_MOST);
  let top = 0;
  view.rows = run.lanes.map((lane) => {
    const row = lane.states === null ? thinRow(top) : tallRow(top, tallHeight);
    top += row.height;
    return row;
  });
  view.content = top;
}

/** A lane without states is only a strip of events. */
function thinRow(top) {
  return { top, height: THIN_LANE, band: null, ticks: { top: top + 4, height: THIN_LANE - 8 }, chart: null };
}

/** A lane with states has a band for the role, a strip of events and a chart of the indexes. */
function tallRow(top, height) {
  const inside = height - 7;
  const band = limited(Math.round(inside * 0.32), 13, 20);
  const ticks = limited(Math.round(inside * 0.32), 12, 22);
  const chartTop = top + 3 + band + 1 + ticks + 1;
  return {
    top,
    height,
    band: { top: top + 3, height: band },
    ticks: { top: top + 3 + band + 1, height: ticks },
    chart: { top: chartTop, height: top + height - 3 - chartTop },
  };
}

/** How far down on the canvas the middle of a lane's events is. */
function middleOf(view, lane) {
  const { ticks } = view.rows[lane];
  return view.head - view.scroll + ticks.top + ticks.height / 2;
}

/** The lane at a height on the canvas, or NONE. */
function laneAt(view, height) {
  const down = height - view.head + view.scroll;
  if (height < view.head) return NONE;
  return view.rows.findIndex((row) => down >= row.top && down < row.top + row.height);
}

/** Puts faults into rows in which they do not overlap, as far as there are rows. */
function stackFaults(run) {
  const free = [];
  const ordered = [...run.faults].sort((a, b) => a.begins - b.begins);
  for (const fault of ordered) {
    let row = free.findIndex((until) => until <= fault.begins);
    if (row < 0) row = Math.min(free.length, FAULT_ROWS_MOST - 1);
    fault.row = row;
    fault.isCovered = row < free.length && free[row] > fault.begins;
    free[row] = Math.max(free[row] ?? 0, fault.ends);
  }
  run.faults = ordered;
  run.faultRows = free.length;
  const kinds = [...new Set(ordered.map((fault) => fault.kind))];
  for (const fault of ordered) fault.colour = kinds.indexOf(fault.kind) % FAULT_COLOURS;
}
