'use strict';
// The messages in order of time: finds those that cross the view without a look at all of them.
//
// They are ordered by their sending. Those sent within the view are found by halving; those sent before it
// and still under way are found in blocks, each of which knows the latest end in it.
// When more cross the view than the eye can tell apart, every second, fourth, eighth... is taken, by its
// place in the whole order, so that the choice stays the same while the view moves.

const FATE_ARRIVED = 0;
const FATE_LOST = 1;
const FATE_DOUBLED = 2;
const FATE_UNDER_WAY = 3;

const BLOCK = 256;
const MESSAGES_DRAWN_MOST = 3000;
const MESSAGES_SAMPLED = 500;

/** Orders the messages of the run by their sending. */
function orderMessages(run) {
  const { count, from } = run.messages;
  const order = Int32Array.from({ length: count }, (_, i) => i);
  order.sort((a, b) => from[a] - from[b] || a - b);
  const typical = typicalFlight(run);
  const begins = new Float64Array(count);
  const ends = new Float64Array(count);
  const latest = new Float64Array(Math.ceil(count / BLOCK));
  const lost = [];
  order.forEach((message, place) => {
    begins[place] = run.at[from[message]];
    ends[place] = endOfFlight(run, typical, message);
    const block = Math.floor(place / BLOCK);
    latest[block] = Math.max(latest[block], ends[place]);
    if (isLost(run, message)) lost.push(place);
  });
  const lostPlaces = Int32Array.from(lost);
  const lostBegins = Float64Array.from(lost, (place) => begins[place]);
  return { order, begins, ends, latest, lostPlaces, lostBegins, typical };
}

/** When the line of a message ends: at its arrival, or at the end of the run, or where it would have arrived. */
function endOfFlight(run, typical, message) {
  const { from, to, fate } = run.messages;
  if (to[message] !== NONE) return run.at[to[message]];
  return fate[message] === FATE_UNDER_WAY ? run.end : run.at[from[message]] + typical;
}

/** Whether a message never arrived and never will. */
function isLost(run, message) {
  return run.messages.to[message] === NONE && run.messages.fate[message] !== FATE_UNDER_WAY;
}

/** How long a message takes as a rule: the median of some that arrived. A lost one is drawn that long. */
function typicalFlight(run) {
  const { count, from, to } = run.messages;
  const flights = [];
  const stride = Math.max(1, Math.floor(count / 1000));
  for (let message = 0; message < count; message += stride) {
    if (to[message] !== NONE) flights.push(run.at[to[message]] - run.at[from[message]]);
  }
  flights.sort((a, b) => a - b);
  return flights.length > 0 ? Math.max(1, flights[flights.length >> 1]) : 1000;
}

/** The places of the messages sent before a moment, and not at their end by then. */
function underWayAt(flights, moment, sentBy) {
  const found = [];
  for (let block = 0; block * BLOCK < sentBy; block += 1) {
    if (flights.latest[block] < moment) continue;
    const stop = Math.min(sentBy, (block + 1) * BLOCK);
    for (let place = block * BLOCK; place < stop; place += 1) {
      if (flights.ends[place] >= moment) found.push(place);
    }
  }
  return found;
}

/** The places of the messages to draw between two moments, and how many cross that time in all. */
function messagesBetween(run, flights, from, to, past) {
  const low = firstNotBefore(flights.begins, from);
  const high = firstAfter(flights.begins, to);
  const earlier = underWayAt(flights, from, low);
  const crossing = earlier.length + high - low;
  if (past) return pastBetween(run, flights, earlier, low, high, past);
  if (crossing <= MESSAGES_DRAWN_MOST) return { places: placesFrom(earlier, low, high, 1), crossing };
  const places = placesFrom(earlier, low, high, strideFor(crossing));
  addLost(places, flights, from, to, strideFor(crossing));
  return { places, crossing };
}

/** The stride that leaves about as many as a sample has. */
function strideFor(count) {
  return 2 ** Math.ceil(Math.log2(count / MESSAGES_SAMPLED));
}

function placesFrom(earlier, low, high, stride) {
  const places = earlier.filter((place) => place % stride === 0);
  for (let place = Math.ceil(low / stride) * stride; place < high; place += stride) places.push(place);
  return places;
}

/** Adds lost messages to a sample, for they are rare and matter most. */
function addLost(places, flights, from, to, stride) {
  const low = firstNotBefore(flights.lostBegins, from);
  const high = firstAfter(flights.lostBegins, to);
  const step = Math.max(1, Math.ceil((high - low) / MESSAGES_SAMPLED));
  for (let i = Math.ceil(low / step) * step; i < high; i += step) {
    if (flights.lostPlaces[i] % stride !== 0) places.push(flights.lostPlaces[i]);
  }
}

/** As messagesBetween, but only the messages that carried the causal past. */
function pastBetween(run, flights, earlier, low, high, past) {
  const places = [];
  const take = (place) => {
    const arrival = run.messages.to[flights.order[place]];
    if (arrival !== NONE && isInPast(past, run, arrival)) places.push(place);
  };
  earlier.forEach(take);
  for (let place = low; place < high; place += 1) take(place);
  const crossing = places.length;
  if (crossing <= MESSAGES_DRAWN_MOST) return { places, crossing };
  const stride = strideFor(crossing);
  return { places: places.filter((place) => place % stride === 0), crossing };
}
