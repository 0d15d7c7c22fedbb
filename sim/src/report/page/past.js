'use strict';
// The causal past of an event: everything that could have had an influence on it.
//
// That is what was before it in its lane and, for each message that arrived there, the past of its sending.
// In each lane the past is thus all up to one last event, so one number for each lane holds it.
// A walk over the events, backwards, finds these numbers: a message is always sent before it arrives.

/** The past of an event: for each lane the last event in it, or NONE. */
function pastOf(run, event) {
  const last = new Int32Array(run.lanes.length).fill(NONE);
  last[run.lane[event]] = event;
  const { from, arrived } = run.messages;
  for (let i = event; i >= 0; i -= 1) {
    if (i > last[run.lane[i]]) continue;
    for (const message of arrived.of(i)) {
      const sending = from[message];
      const lane = run.lane[sending];
      if (sending < i && sending > last[lane]) last[lane] = sending;
    }
  }
  // A fault strikes without a message, so those that were before it stay.
  run.lanes.forEach((lane, index) => {
    if (lane.kind !== 'world') return;
    let i = event;
    while (i >= 0 && run.lane[i] !== index) i -= 1;
    if (i >= 0) last[index] = Math.max(last[index], i);
  });
  let shown = 0;
  for (const lastInLane of last) if (lastInLane !== NONE) shown += run.rank[lastInLane] + 1;
  return { event, last, shown };
}

/** Whether an event is in a past. */
function isInPast(past, run, event) {
  return event <= past.last[run.lane[event]];
}
