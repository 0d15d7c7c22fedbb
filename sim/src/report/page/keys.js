'use strict';
// The keys: what each does, and the table that shows them.
//
// They work wherever the focus is, except in the search field and in dialogs. A button keeps Enter and the
// space bar.

/** The keys, how they are shown, what they do, and the function that does it. */
const KEYS = [
  {
    keys: ['ArrowLeft', 'ArrowRight'],
    shown: '← →',
    does: 'move the view',
    act: (key) => pan(key === 'ArrowLeft' ? -0.1 : 0.1),
  },
  {
    keys: ['Shift+ArrowLeft', 'Shift+ArrowRight'],
    shown: 'Shift ← →',
    does: 'move the cursor',
    act: (key) => stepCursor(key.endsWith('Left') ? -1 : 1),
  },
  {
    keys: ['ArrowUp', 'ArrowDown'],
    shown: '↑ ↓',
    does: 'choose the lane',
    act: (key) => chooseLaneBeside(key === 'ArrowUp' ? -1 : 1),
  },
  {
    keys: ['[', ']'],
    shown: '[ ]',
    does: 'previous and next event in the lane',
    act: (key) => stepEvent(key === '[' ? -1 : 1),
  },
  {
    keys: ['m', 'M'],
    shown: 'm M',
    does: 'follow the message of the event to its arrival, back to its sending',
    act: (key) => followMessage(key === 'm'),
  },
  {
    keys: ['+', '='],
    shown: '+',
    does: 'zoom in around the cursor',
    act: () => zoom(0.6),
  },
  {
    keys: ['-', '_'],
    shown: '-',
    does: 'zoom out',
    act: () => zoom(1 / 0.6),
  },
  {
    keys: ['0', 'Home'],
    shown: '0 Home',
    does: 'show the whole run',
    act: showAll,
  },
  {
    keys: ['v'],
    shown: 'v',
    does: 'jump to the violation',
    act: goToViolation,
  },
  {
    keys: ['p'],
    shown: 'p',
    does: 'only the causal past of the violation, or of the event if there is none',
    act: togglePast,
  },
  {
    keys: ['P'],
    shown: 'P',
    does: 'only the causal past of the chosen event',
    act: () => setPast(app.cursor.event),
  },
  {
    keys: ['/'],
    shown: '/',
    does: 'search; Enter goes to the next match, Escape leaves',
    act: focusSearch,
  },
  {
    keys: ['n', 'N'],
    shown: 'n N',
    does: 'next and previous match',
    act: (key) => goToMatch(key === 'n'),
  },
  {
    keys: ['a'],
    shown: 'a',
    does: 'list the events around of all lanes, or of one',
    act: toggleAllLanes,
  },
  {
    keys: ['?'],
    shown: '?',
    does: 'show the keys',
    act: showKeys,
  },
];

const SIGNS = [
  'The band of a node is its role, with a letter: F follower, P pre-candidate, C candidate, L leader; hatched ' +
    'is down. Its shade changes with every term.',
  'Below it are the events: ▸ sent, ▾ arrived, ○ timeout, ● input, | output, ■ outcome, ◆ start or fault. ' +
    'Where there are many, a column is as high as there are many.',
  'The chart below them shows applied (area), commit (thin line) and the high watermark (thick line), on one ' +
    'scale for all nodes in view. Its ground changes with every leader epoch.',
  'A message that was lost ends half way with a cross; a second copy has a ring; one still under way at the ' +
    'end is dashed.',
  'Drag or turn the wheel over the time line; the strip at its top is the whole run, and can be clicked.',
];

const ACTIONS = new Map(KEYS.flatMap(({ keys, act }) => keys.map((key) => [key, act])));

function startKeys() {
  document.addEventListener('keydown', onKey);
  part('search').addEventListener('keydown', onSearchKey);
  buildKeys();
}

function onKey(event) {
  const isTyping = event.target.closest('input, dialog') !== null;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const isArrow = event.key.startsWith('Arrow');
  const act = ACTIONS.get(event.shiftKey && isArrow ? `Shift+${event.key}` : event.key);
  if (!act) return;
  event.preventDefault();
  act(event.key);
}

function onSearchKey(event) {
  if (event.key === 'Enter') goToMatch(!event.shiftKey);
  else if (event.key === 'Escape') part('canvas').focus();
  else return;
  event.preventDefault();
}

function focusSearch() {
  part('search').focus();
  part('search').select();
}

function showKeys() {
  part('keys').showModal();
}

function buildKeys() {
  for (const { shown, does } of KEYS) {
    const row = make('tr');
    const keys = make('th');
    keys.scope = 'row';
    for (const key of shown.split(' ')) keys.append(make('kbd', '', key));
    row.append(keys, make('td', '', does));
    part('keys-rows').append(row);
  }
  for (const sign of SIGNS) part('keys-signs').append(make('li', '', sign));
}
