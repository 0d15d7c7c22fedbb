'use strict';
// The data: turns the text of the run into arrays that are quick to search.
//
// Times become absolute. Each lane gets the list of its events, each event the messages that it sent and
// that arrived with it. Everything is ordered by time, so that what is in view is found by halving.
// What does not fit together is refused with a sentence that says where.

const NONE = -1;

/** The place of the first entry that is not less than the value, in an ordered array. */
function firstNotBefore(ordered, value, low = 0, high = ordered.length) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ordered[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place of the first entry that is greater than the value, in an ordered array. */
function firstAfter(ordered, value, low = 0, high = ordered.length) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ordered[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function must(holds, sentence) {
  if (!holds) throw new Error(sentence);
}

/** Reads the whole run. Throws an error with a sentence for the reader if it cannot. */
function readRun(text) {
  const raw = parse(text);
  must(raw !== null && typeof raw === 'object', 'The data of the run is not an object.');
  must(raw.format === 1, `The data has format ${raw.format}; this page reads format 1.`);
  for (const name of ['lanes', 'kinds', 'strings', 'faults', 'states']) {
    must(Array.isArray(raw[name]), `The data has no list of ${name}.`);
  }
  must(Number.isFinite(raw.end), 'The data does not say when the run ended.');
  const run = {
    title: String(raw.title ?? 'a run'),
    command: String(raw.command ?? ''),
    about: (raw.about ?? []).map(String),
    kinds: raw.kinds.map(String),
    strings: raw.strings.map(String),
    end: Math.max(raw.end, 1),
  };
  readEvents(run, raw);
  readLanes(run, raw);
  readMessages(run, raw);
  run.faults = raw.faults.map((fault) => readFault(fault, run));
  run.verdict = readVerdict(raw.verdict, run);
  return run;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The data of the run is not JSON: ${error.message}`);
  }
}

/** Checks that all lists of a table are there and have the same length, and returns that. */
function lengthOf(table, names, what) {
  must(table !== null && typeof table === 'object', `The data has no ${what}.`);
  for (const name of names) {
    must(Array.isArray(table[name]), `The ${what} have no list "${name}".`);
    must(
      table[name].length === table[names[0]].length,
      `The ${what} have ${table[names[0]].length} of "${names[0]}" but ${table[name].length} of "${name}".`,
    );
  }
  return table[names[0]].length;
}

/** A list of whole numbers from `least` up to, but not including, `limit`. */
function within(list, least, limit, what) {
  const numbers = Int32Array.from(list);
  for (let i = 0; i < numbers.length; i += 1) {
    if (numbers[i] !== list[i] || numbers[i] < least || numbers[i] >= limit) {
      throw new Error(`${what} number ${i} is ${list[i]}, which must be from ${least} to ${limit - 1}.`);
    }
  }
  return numbers;
}

function readEvents(run, raw) {
  const count = lengthOf(raw.events, ['at', 'lane', 'kind', 'text'], 'events');
  run.count = count;
  run.at = new Float64Array(count);
  let now = 0;
  for (let i = 0; i < count; i += 1) {
    const step = raw.events.at[i];
    if (!(step >= 0)) throw new Error(`Event number ${i} is before the one before it.`);
    now += step;
    run.at[i] = now;
  }
  run.end = Math.max(run.end, now);
  run.lane = within(raw.events.lane, 0, raw.lanes.length, 'The lane of event');
  run.kind = within(raw.events.kind, 0, raw.kinds.length, 'The kind of event');
  run.text = within(raw.events.text, 0, raw.strings.length, 'The text of event');
}

/** Gives each lane its events and states, and each event its rank in its lane. */
function readLanes(run, raw) {
  const lists = groups(run.lane, raw.lanes.length);
  run.rank = new Int32Array(run.count);
  run.lanes = raw.lanes.map((lane, index) => {
    const events = lists.of(index);
    const times = new Float64Array(events.length);
    events.forEach((event, rank) => {
      times[rank] = run.at[event];
      run.rank[event] = rank;
    });
    const states = readStates(raw.states[index], run, index);
    return { name: String(lane.name), kind: String(lane.kind), index, events, times, states };
  });
}

/** Groups the places 0, 1, 2... by their key; places whose key is negative are in no group. */
function groups(keys, count) {
  const starts = new Int32Array(count + 1);
  for (const key of keys) if (key >= 0) starts[key + 1] += 1;
  for (let i = 0; i < count; i += 1) starts[i + 1] += starts[i];
  const filled = starts.slice(0, count);
  const members = new Int32Array(starts[count]);
  for (let i = 0; i < keys.length; i += 1) {
    if (keys[i] < 0) continue;
    members[filled[keys[i]]] = i;
    filled[keys[i]] += 1;
  }
  return { of: (key) => members.subarray(starts[key], starts[key + 1]) };
}

const STATE_NUMBERS = ['term', 'leader', 'commit', 'applied', 'epoch', 'high_watermark'];

/** The states of a lane, or null if it has none. */
function readStates(raw, run, index) {
  if (!raw || !Array.isArray(raw.at) || raw.at.length === 0) return null;
  const what = `states of lane ${index}`;
  lengthOf(raw, ['at', 'role', 'text', ...STATE_NUMBERS], what);
  const states = { at: Float64Array.from(raw.at), role: within(raw.role, 0, 5, `The role in the ${what},`) };
  for (const name of STATE_NUMBERS) states[name] = Float64Array.from(raw[name]);
  states.text = within(raw.text, NONE, run.strings.length, `The text in the ${what},`);
  states.bands = stretches(states, ['role', 'term']);
  states.epochs = stretches(states, ['epoch']);
  return states;
}

/** The places at which one of the named numbers changes, with their times. */
function stretches(states, names) {
  const places = [];
  for (let i = 0; i < states.at.length; i += 1) {
    if (i === 0 || names.some((name) => states[name][i] !== states[name][i - 1])) places.push(i);
  }
  return { at: Float64Array.from(places, (place) => states.at[place]), place: Int32Array.from(places) };
}

function readMessages(run, raw) {
  const count = lengthOf(raw.messages, ['from', 'to', 'fate', 'lane'], 'messages');
  const from = within(raw.messages.from, 0, run.count, 'The sending of message');
  const to = within(raw.messages.to, NONE, run.count, 'The arrival of message');
  run.messages = {
    count,
    from,
    to,
    fate: within(raw.messages.fate, 0, 4, 'The fate of message'),
    lane: within(raw.messages.lane, 0, run.lanes.length, 'The lane of message'),
    sent: groups(from, run.count),
    arrived: groups(to, run.count),
  };
}

function readFault(raw, run) {
  const ends = raw.ends >= raw.begins ? raw.ends : run.end;
  const lanes = raw.lanes && raw.lanes.length > 0 ? raw.lanes : run.lanes.map((lane) => lane.index);
  return { kind: String(raw.kind), begins: raw.begins, ends, lanes, text: String(raw.text ?? '') };
}

function readVerdict(raw, run) {
  if (!raw) return null;
  const isKnown = Number.isInteger(raw.event) && raw.event >= 0 && raw.event < run.count;
  return { rule: String(raw.rule), text: String(raw.text ?? ''), event: isKnown ? raw.event : NONE };
}

/** The last event of a lane at or before a moment, or NONE. */
function lastEventBy(lane, moment) {
  const rank = firstAfter(lane.times, moment) - 1;
  return rank >= 0 ? lane.events[rank] : NONE;
}

/** The place of the state that a lane has at a moment, or NONE. */
function stateAt(states, moment) {
  return firstAfter(states.at, moment) - 1;
}
