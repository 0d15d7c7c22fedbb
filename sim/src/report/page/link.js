'use strict';
// The link: what is shown stands in the fragment of the address, so that a moment can be sent to others.
//
// `at`, `from` and `to` are microseconds, `lane` and `event` count from 0, `past=1` filters to the causal
// past (`of` names its event if it is not the usual one), `q` is the search. Browsers allow only so many
// changes of the address, so it is written some time after the last change.

const REMEMBER_AFTER = 250;

const memory = { timer: 0, isReading: false, known: location.hash };

/** Writes the address soon. */
function rememberSoon() {
  if (memory.timer !== 0 || memory.isReading) return;
  memory.timer = setTimeout(() => {
    memory.timer = 0;
    remember();
  }, REMEMBER_AFTER);
}

function remember() {
  // An address that someone else has just changed is about to be read, and must not be lost.
  if (location.hash !== memory.known) return;
  try {
    history.replaceState(null, '', `#${fragmentOf(app)}`);
    memory.known = location.hash;
  } catch {
    // A page without an address of its own cannot be linked; all else works.
  }
}

/** What is shown, as a fragment. What is as it would be anyway is left out. */
function fragmentOf(app) {
  const { run, cursor, view, past, found } = app;
  const wishes = new URLSearchParams();
  wishes.set('at', String(Math.round(cursor.at)));
  wishes.set('lane', String(cursor.lane));
  if (cursor.event !== lastEventBy(run.lanes[cursor.lane], cursor.at)) wishes.set('event', String(cursor.event));
  if (!isWhole(app)) {
    wishes.set('from', String(Math.round(view.from)));
    wishes.set('to', String(Math.round(view.to)));
  }
  if (past) wishes.set('past', '1');
  if (past && past.event !== pastTarget()) wishes.set('of', String(past.event));
  if (found.query !== '') wishes.set('q', found.query);
  return wishes.toString();
}

/** Shows what the address asks for; what it does not name is as at the start. */
function readFragment() {
  memory.isReading = true;
  memory.known = location.hash;
  const wishes = new URLSearchParams(location.hash.replace(/^#/, ''));
  const number = (name, least, most) => {
    const value = Number(wishes.get(name) ?? NaN);
    return Number.isFinite(value) && value >= least && value <= most ? value : null;
  };
  readStretch(number('from', -Infinity, Infinity), number('to', -Infinity, Infinity));
  readCursor(number);
  readPast(wishes.get('past') === '1', number('of', 0, app.run.count - 1));
  const query = wishes.get('q') ?? '';
  part('search').value = query;
  setSearch(query);
  memory.isReading = false;
}

function readStretch(from, to) {
  const whole = wholeRun(app.run);
  if (from !== null && to !== null && to > from) showStretch(app, from, to);
  else showStretch(app, whole.from, whole.to);
}

function readCursor(number) {
  const { run } = app;
  const event = number('event', 0, run.count - 1);
  const wrong = run.verdict ? run.verdict.event : NONE;
  const start = wrong === NONE ? 0 : wrong;
  const lane = number('lane', 0, run.lanes.length - 1);
  const at = number('at', 0, Infinity);
  if (event !== null) moveCursor(run.at[event], run.lane[event], event);
  else if (at === null && lane === null) moveCursor(run.at[start], run.lane[start], start);
  else moveCursor(at ?? run.at[start], lane ?? run.lane[start]);
  reveal(app.cursor.at);
}

function readPast(isWanted, event) {
  setPast(isWanted ? event ?? pastTarget() : NONE);
}
