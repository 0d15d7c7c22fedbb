'use strict';
// The search: which events have a text that contains what is looked for, and which lanes are named so.
//
// Equal texts are stored once, so each text is looked at once. Upper and lower case are the same.

const NOTHING_FOUND = { query: '', events: new Int32Array(0), byLane: [], lanes: [] };

/** Finds all matches in the run. */
function searchRun(run, query) {
  const wanted = query.trim().toLowerCase();
  if (wanted === '') return NOTHING_FOUND;
  const hits = textsWith(run, wanted);
  const events = [];
  for (let event = 0; event < run.count; event += 1) {
    if (hits[run.text[event]] === 1) events.push(event);
  }
  const byLane = run.lanes.map(() => []);
  for (const event of events) byLane[run.lane[event]].push(run.at[event]);
  const lanes = run.lanes.filter((lane) => lane.name.toLowerCase().includes(wanted));
  return {
    query,
    events: Int32Array.from(events),
    byLane: byLane.map((times) => Float64Array.from(times)),
    lanes: lanes.map((lane) => lane.index),
  };
}

/** For each text 1 if it contains what is wanted. The texts in lower case are kept for the next search. */
function textsWith(run, wanted) {
  if (!run.lowered) run.lowered = run.strings.map((text) => text.toLowerCase());
  return Uint8Array.from(run.lowered, (text) => (text.includes(wanted) ? 1 : 0));
}

/** The match after an event (or before it), going round at the ends; NONE if nothing was found. */
function matchBeside(found, event, forward) {
  const { events } = found;
  if (events.length === 0) return NONE;
  if (forward) {
    const place = firstAfter(events, event);
    return events[place < events.length ? place : 0];
  }
  const place = firstNotBefore(events, event) - 1;
  return events[place >= 0 ? place : events.length - 1];
}

/** What was found, in words. */
function foundInWords(found) {
  if (found.query.trim() === '') return '';
  const parts = [counted(found.events.length, 'event', 'events')];
  if (found.lanes.length > 0) parts.push(counted(found.lanes.length, 'lane', 'lanes'));
  return parts.join(', ');
}
