'use strict';
// The actions: all that a reader can do, whether by key, by pointer or by a link.
//
// Each changes what the page knows, brings the panels up to date and asks for a frame.

/** Puts the cursor at a moment of a lane. Without an event it takes the last one of the lane before. */
function moveCursor(at, lane, event) {
  const begun = performance.now();
  const { run, cursor } = app;
  cursor.at = limited(Math.round(at), 0, run.end);
  cursor.lane = lane;
  cursor.event = event ?? lastEventBy(run.lanes[lane], cursor.at);
  updatePanels(app);
  tellCursor();
  rememberSoon();
  redraw();
  facts.cursor = (performance.now() - begun).toFixed(2);
}

function tellCursor() {
  facts.at = String(Math.round(app.cursor.at));
  facts.lane = String(app.cursor.lane);
  facts.event = String(app.cursor.event);
}

/** Moves the cursor to an event, and the view as far as it must. */
function goToEvent(event) {
  if (event === NONE) return;
  reveal(app.run.at[event]);
  moveCursor(app.run.at[event], app.run.lane[event], event);
  revealLane(app.cursor.lane);
}

/** Moves the view so that a moment is in it, without a change of scale. */
function reveal(moment) {
  const { view } = app;
  const length = view.to - view.from;
  const margin = length * 0.03;
  if (moment >= view.from + margin && moment <= view.to - margin) return;
  showStretch(app, moment - length / 2, moment + length / 2);
}

/** Scrolls so that a lane is in view. */
function revealLane(lane) {
  const { view } = app;
  const row = view.rows[lane];
  const board = part('board');
  const room = view.height - view.head;
  if (row.top < view.scroll) board.scrollTop = row.top;
  else if (row.top + row.height > view.scroll + room) board.scrollTop = row.top + row.height - room;
}

function chooseLane(lane) {
  moveCursor(app.cursor.at, lane);
  revealLane(lane);
}

function chooseLaneBeside(step) {
  chooseLane(limited(app.cursor.lane + step, 0, app.run.lanes.length - 1));
}

/** The next or previous event in the lane. Between two events the cursor goes to the nearer one on that side. */
function stepEvent(step) {
  const { run, cursor } = app;
  const lane = run.lanes[cursor.lane];
  const rank = cursor.event === NONE ? NONE : run.rank[cursor.event];
  const isBetween = cursor.event !== NONE && cursor.at > run.at[cursor.event];
  const wanted = step < 0 && isBetween ? rank : rank + step;
  if (wanted >= 0 && wanted < lane.events.length) goToEvent(lane.events[wanted]);
}

/** Moves the cursor by a hundredth of the view, to no event in particular. */
function stepCursor(step) {
  const { view, cursor } = app;
  const at = cursor.at + ((view.to - view.from) / 100) * step;
  reveal(at);
  moveCursor(at, cursor.lane);
}

/** Follows a message of the chosen event: to where it arrived, or back to where it was sent. */
function followMessage(forward) {
  const { run, cursor } = app;
  if (cursor.event === NONE) return;
  const { sent, arrived, from, to } = run.messages;
  if (forward) {
    const arrivals = Array.from(sent.of(cursor.event), (message) => to[message]);
    goToEvent(arrivals.find((event) => event !== NONE) ?? NONE);
  } else if (arrived.of(cursor.event).length > 0) {
    goToEvent(from[arrived.of(cursor.event)[0]]);
  }
}

/** Moves the view by a part of its length. */
function pan(part) {
  const { view } = app;
  const shift = (view.to - view.from) * part;
  changeStretch(view.from + shift, view.to + shift);
}

/** Changes the scale around a moment; without one around the cursor if it is in view, else the middle. */
function zoom(factor, around) {
  const { view, cursor } = app;
  const isInView = cursor.at >= view.from && cursor.at <= view.to;
  const centre = around ?? (isInView ? cursor.at : (view.from + view.to) / 2);
  const length = limited((view.to - view.from) * factor, SHORTEST_VIEW, wholeRun(app.run).to * 1.1);
  const share = (centre - view.from) / (view.to - view.from);
  changeStretch(centre - length * share, centre + length * (1 - share));
}

function changeStretch(from, to) {
  showStretch(app, from, to);
  rememberSoon();
  redraw();
}

function showAll() {
  const whole = wholeRun(app.run);
  changeStretch(whole.from, whole.to);
}

/** Shows the violation with some events around it. */
function goToViolation() {
  const { run } = app;
  if (!run.verdict || run.verdict.event === NONE) return;
  const { event } = run.verdict;
  const from = run.at[Math.max(event - 120, 0)];
  const length = Math.max((run.at[event] - from) * 1.3, 1000);
  showStretch(app, run.at[event] - length * 0.75, run.at[event] + length * 0.25);
  goToEvent(event);
}

/** Shows only the causal past of the violation, or of the chosen event if there is none; or again all. */
function togglePast() {
  if (app.past) setPast(NONE);
  else setPast(pastTarget());
}

/** The event whose past is shown if none is named. */
function pastTarget() {
  const { run, cursor } = app;
  return run.verdict && run.verdict.event !== NONE ? run.verdict.event : cursor.event;
}

/** Shows only the causal past of an event, or all for NONE. */
function setPast(event) {
  const { run } = app;
  app.past = event === NONE ? null : pastOf(run, event);
  part('past').setAttribute('aria-pressed', String(app.past !== null));
  facts.shown = String(app.past ? app.past.shown : run.count);
  say(part('past-of'), app.past ? pastInWords(app) : '');
  updatePanels(app);
  rememberSoon();
  redraw();
}

function pastInWords(app) {
  const { run, past } = app;
  const isWrong = run.verdict && run.verdict.event === past.event;
  const event = `${run.lanes[run.lane[past.event]].name} at ${inSeconds(run.at[past.event])}`;
  return `of ${isWrong ? 'the violation' : event}: ${inDigits(past.shown)} of ${counted(run.count, 'event', 'events')}`;
}

/** Looks for a text in the whole run. */
function setSearch(query) {
  app.found = searchRun(app.run, query);
  const { found } = app;
  facts.matches = String(found.events.length + found.lanes.length);
  say(part('found'), foundInWords(found));
  panel.names.forEach((name, lane) => name.classList.toggle('found', found.lanes.includes(lane)));
  part('found-next').disabled = found.events.length + found.lanes.length === 0;
  part('found-previous').disabled = part('found-next').disabled;
  rememberSoon();
  redraw();
}

/** Goes to the next match or the one before; if only lanes match, to the next of those. */
function goToMatch(forward) {
  const { found, cursor } = app;
  if (found.events.length > 0) {
    // From a place without an event, the search goes on from the last event of the run before it.
    const here = cursor.event !== NONE && cursor.at === app.run.at[cursor.event];
    const from = here ? cursor.event : firstAfter(app.run.at, cursor.at) - (forward ? 1 : 0);
    goToEvent(matchBeside(found, from, forward));
  } else if (found.lanes.length > 0) {
    const ordered = forward ? found.lanes : [...found.lanes].reverse();
    chooseLane(ordered.find((lane) => (forward ? lane > cursor.lane : lane < cursor.lane)) ?? ordered[0]);
  }
}

function toggleAllLanes() {
  app.listsAllLanes = !app.listsAllLanes;
  part('nearby-all').setAttribute('aria-pressed', String(app.listsAllLanes));
  updateNearby(app);
}
