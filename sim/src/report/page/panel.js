'use strict';
// The panels: the state of each lane at the cursor, the chosen event in full with its messages, and the
// events around it.
//
// All elements are made once. A move of the cursor only changes texts, and only those that differ.

const STATE_COLUMNS = [
  ['role', 'role'], ['term', 'term'], ['leader', 'leader'], ['commit', 'commit'], ['applied', 'applied'],
  ['epoch', 'epoch'], ['high_watermark', 'high w.'],
];
const COLUMN_TITLES = { epoch: 'leader epoch', high_watermark: 'high watermark' };
const LINKS_MOST = 10;
const NEARBY_ROW = 18;

const panel = { cells: [], names: [], nearby: [], nearbyCount: 0 };

/** Makes the names on the left and the table of states on the right. */
function buildLanes(app) {
  const states = part('states');
  const head = make('div', 'states-head');
  head.setAttribute('role', 'row');
  for (const [name, title] of STATE_COLUMNS) {
    const cell = make('span', `column-${name}`, title);
    cell.setAttribute('role', 'columnheader');
    if (COLUMN_TITLES[name]) cell.title = COLUMN_TITLES[name];
    head.append(cell);
  }
  states.append(head);
  part('names').append(make('div', 'names-head', 'lane'));
  for (const lane of app.run.lanes) {
    buildName(lane);
    states.append(buildStateRow(lane));
  }
}

function buildName(lane) {
  const button = make('button', `name kind-${lane.kind}`);
  button.type = 'button';
  button.append(make('span', 'name-text', lane.name), make('span', 'name-count', inDigits(lane.events.length)));
  button.setAttribute('aria-label', `${lane.name}, ${counted(lane.events.length, 'event', 'events')}`);
  button.addEventListener('click', () => chooseLane(lane.index));
  panel.names.push(button);
  part('names').append(button);
}

function buildStateRow(lane) {
  const row = make('div', lane.states === null ? 'state-row thin' : 'state-row');
  row.setAttribute('role', 'row');
  row.setAttribute('aria-label', lane.name);
  const cells = { row, text: make('span', 'state-note') };
  if (lane.states !== null) {
    for (const [name] of STATE_COLUMNS) {
      cells[name] = make('span', `column-${name}`);
      cells[name].setAttribute('role', 'cell');
      row.append(cells[name]);
    }
  }
  cells.text.setAttribute('role', 'cell');
  row.append(cells.text);
  panel.cells.push(cells);
  return row;
}

/** Gives names and states the heights of their lanes. */
function placeLanes(app) {
  const { view } = app;
  for (const head of document.querySelectorAll('.names-head, .states-head')) head.style.height = `${view.head}px`;
  view.rows.forEach((row, lane) => {
    panel.names[lane].style.height = `${row.height}px`;
    panel.cells[lane].row.style.height = `${row.height}px`;
  });
  part('stage').style.height = `${view.head + view.content}px`;
}

/** Brings all panels to the cursor. */
function updatePanels(app) {
  app.run.lanes.forEach((lane) => updateState(app, lane));
  updateEvent(app);
  updateNearby(app);
  say(part('here'), inWords(app));
}

function updateState(app, lane) {
  const cells = panel.cells[lane.index];
  const isChosen = lane.index === app.cursor.lane;
  cells.row.classList.toggle('chosen', isChosen);
  panel.names[lane.index].classList.toggle('chosen', isChosen);
  panel.names[lane.index].setAttribute('aria-pressed', String(isChosen));
  if (lane.states === null) {
    const event = lastEventBy(lane, app.cursor.at);
    say(cells.text, event === NONE ? '' : app.run.strings[app.run.text[event]]);
    return;
  }
  const place = stateAt(lane.states, app.cursor.at);
  for (const [name] of STATE_COLUMNS) say(cells[name], stateText(lane.states, place, name));
  const role = place < 0 ? '' : String(lane.states.role[place]);
  if (cells.role.dataset.role !== role) cells.role.dataset.role = role;
  say(cells.text, noteOf(app, lane, place));
  cells.text.title = cells.text.textContent;
}

/** A number of a state as it stands in the table: nothing if it does not apply, a dash for no leader. */
function stateText(states, place, name) {
  if (place < 0) return '';
  const value = states[name][place];
  if (name === 'role') return ROLES[value];
  if (value < 0) return '';
  if (name === 'leader' && value === 0) return '–';
  return inDigits(value);
}

function noteOf(app, lane, place) {
  if (place < 0 || lane.states.text[place] < 0) return '';
  return app.run.strings[lane.states.text[place]];
}

/** What is at the cursor, in one line. */
function inWords(app) {
  const { run, cursor } = app;
  const lane = run.lanes[cursor.lane];
  const parts = [inSeconds(cursor.at), lane.name];
  if (lane.states !== null) {
    const place = stateAt(lane.states, cursor.at);
    if (place >= 0) {
      const term = lane.states.term[place];
      parts.push(ROLES[lane.states.role[place]] + (term >= 0 ? ` in term ${term}` : ''));
    }
  }
  if (cursor.event !== NONE) parts.push(kindAndText(run, cursor.event));
  return parts.join(', ');
}

function kindAndText(run, event) {
  return `${run.kinds[run.kind[event]]}: ${run.strings[run.text[event]]}`;
}

/** The chosen event in full. */
function updateEvent(app) {
  const { run, cursor } = app;
  const { event } = cursor;
  const lane = run.lanes[cursor.lane];
  const note = lane.states === null ? '' : noteOf(app, lane, stateAt(lane.states, cursor.at));
  say(part('state-text'), note === '' ? '' : `State of ${lane.name}: ${note}`);
  part('past-here').disabled = event === NONE;
  if (event === NONE) {
    say(part('event-head'), `${lane.name} has no event before ${inSeconds(cursor.at)}`);
    say(part('event-text'), '');
    part('event-links').replaceChildren();
    return;
  }
  say(part('event-head'), headOf(app, event));
  say(part('event-text'), run.strings[run.text[event]]);
  part('event-links').replaceChildren(...linksOf(app, event));
}

/** What kind of event it is, where and when. */
function headOf(app, event) {
  const { run, cursor } = app;
  const parts = [`${run.kinds[run.kind[event]]} at ${run.lanes[run.lane[event]].name}`, inSeconds(run.at[event])];
  if (cursor.at > run.at[event]) parts.push(`${asSpan(cursor.at - run.at[event])} before the cursor`);
  if (run.verdict && run.verdict.event === event) parts.push('the violation');
  return parts.join(' · ');
}

/** Where the messages of an event came from and where they went; each can be followed. */
function linksOf(app, event) {
  const { messages } = app.run;
  const arrived = Array.from(messages.arrived.of(event), (message) => cameFrom(app, message));
  const sent = Array.from(messages.sent.of(event), (message) => wentTo(app, message));
  const all = [...arrived, ...sent];
  if (all.length <= LINKS_MOST) return all;
  return [...all.slice(0, LINKS_MOST), make('li', 'quiet', `and ${all.length - LINKS_MOST} more`)];
}

function cameFrom(app, message) {
  const { run } = app;
  const sending = run.messages.from[message];
  const flight = run.at[run.messages.to[message]] - run.at[sending];
  const copy = run.messages.fate[message] === FATE_DOUBLED ? ', a second copy' : '';
  return link(`← from ${run.lanes[run.lane[sending]].name}, sent ${asSpan(flight)} before${copy}`, sending);
}

function wentTo(app, message) {
  const { run } = app;
  const name = run.lanes[run.messages.lane[message]].name;
  const arrival = run.messages.to[message];
  if (arrival !== NONE) {
    const copy = run.messages.fate[message] === FATE_DOUBLED ? ', a second copy' : '';
    const flight = run.at[arrival] - run.at[run.messages.from[message]];
    return link(`→ to ${name}, arrived ${asSpan(flight)} later${copy}`, arrival);
  }
  const fate = isLost(run, message) ? `× to ${name}, lost` : `→ to ${name}, still under way at the end`;
  return make('li', 'quiet', fate);
}

function link(text, event) {
  const button = make('button', 'link', text);
  button.type = 'button';
  button.addEventListener('click', () => goToEvent(event));
  const item = make('li');
  item.append(button);
  return item;
}

/** Makes as many rows for the events around the cursor as have room. */
function buildNearby() {
  const list = part('nearby');
  const count = Math.max(3, Math.floor(list.clientHeight / NEARBY_ROW));
  if (count === panel.nearby.length) return;
  panel.nearby = Array.from({ length: count }, buildNearbyRow);
  list.replaceChildren(...panel.nearby.map((row) => row.item));
}

function buildNearbyRow() {
  const item = make('li');
  const button = make('button', 'row');
  button.type = 'button';
  const [time, lane, text] = ['row-time', 'row-lane', 'row-text'].map((name) => make('span', name));
  const row = { item, button, time, lane, text, event: NONE };
  button.append(time, lane, text);
  button.addEventListener('click', () => goToEvent(row.event));
  item.append(button);
  return row;
}

/** The events around the chosen one: those of its lane, or of all lanes; never those that are filtered away. */
function updateNearby(app) {
  const { cursor, run } = app;
  const name = app.listsAllLanes ? 'all lanes' : run.lanes[cursor.lane].name;
  say(part('nearby-head'), `Around it in ${name}`);
  const events = eventsAround(app, panel.nearby.length);
  panel.nearby.forEach((row, i) => fillNearbyRow(app, row, i < events.length ? events[i] : NONE));
}

function fillNearbyRow(app, row, event) {
  const { run } = app;
  row.event = event;
  row.item.hidden = event === NONE;
  if (event === NONE) return;
  say(row.time, (run.at[event] / 1e6).toFixed(6));
  say(row.lane, app.listsAllLanes ? run.lanes[run.lane[event]].name : run.kinds[run.kind[event]]);
  say(row.text, run.strings[run.text[event]]);
  row.button.classList.toggle('chosen', event === app.cursor.event);
  row.button.classList.toggle('wrong', run.verdict !== null && event === run.verdict.event);
}

/** As many shown events as wanted, about half of them before the chosen one. */
function eventsAround(app, count) {
  const { run, cursor, past } = app;
  const list = app.listsAllLanes ? null : run.lanes[cursor.lane].events;
  const length = list ? list.length : run.count;
  const eventAt = (place) => (list ? list[place] : place);
  const isShown = (place) => !past || isInPast(past, run, eventAt(place));
  let middle = cursor.event;
  if (list) middle = cursor.event === NONE ? NONE : run.rank[cursor.event];
  const before = [];
  for (let i = middle; i >= 0 && before.length < count; i -= 1) if (isShown(i)) before.push(eventAt(i));
  const after = [];
  for (let i = middle + 1; i < length && after.length < count; i += 1) if (isShown(i)) after.push(eventAt(i));
  const half = Math.max(Math.ceil(count / 2), count - after.length);
  return [...before.slice(0, half).reverse(), ...after].slice(0, count);
}
