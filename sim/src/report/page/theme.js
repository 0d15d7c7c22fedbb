'use strict';
// The colours: the style sheet names them, and the canvas takes them from there.
//
// The page is light or dark as the system asks, until the reader chooses. The roles differ by lightness as
// well as by hue, and stand as a letter where there is room, so that no colour is needed to tell them apart.

const ROLES = ['down', 'follower', 'pre-candidate', 'candidate', 'leader'];
const ROLE_LETTERS = ['–', 'F', 'P', 'C', 'L'];

const INK_NAMES = [
  'back', 'lane-back', 'lane-chosen', 'line', 'grid', 'text', 'quiet', 'accent', 'violation', 'match',
  'tick', 'tick-faint', 'column', 'message', 'lost', 'doubled', 'commit', 'applied', 'watermark', 'epoch-odd',
  'special', 'window', 'hatch',
];
const FAULT_COLOURS = 4;

/** The colours in use; filled by readInk. */
const ink = {};

/** Takes the theme the system asks for, and follows it until the reader chooses another. */
function startTheme(changed) {
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  let isChosen = false;
  const use = (theme) => {
    facts.theme = theme;
    readInk();
    say(part('theme'), theme === 'dark' ? 'Light' : 'Dark');
    changed();
  };
  dark.addEventListener('change', () => {
    if (!isChosen) use(dark.matches ? 'dark' : 'light');
  });
  part('theme').addEventListener('click', () => {
    isChosen = true;
    use(facts.theme === 'dark' ? 'light' : 'dark');
  });
  use(dark.matches ? 'dark' : 'light');
}

function readInk() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  for (const name of INK_NAMES) ink[name] = read(name);
  ink.roles = ROLES.map((_, role) => [read(`role-${role}`), read(`role-${role}-odd`)]);
  ink.roleTexts = ROLES.map((_, role) => read(`role-${role}-text`));
  ink.faults = Array.from({ length: FAULT_COLOURS }, (_, i) => read(`fault-${i}`));
  ink.hatched = hatching(ink.roles[0][0], ink.hatch);
}

/** A pattern of slanted lines: the band of a node that is down. */
function hatching(back, line) {
  const tile = document.createElement('canvas');
  tile.width = 8;
  tile.height = 8;
  const pen = tile.getContext('2d');
  pen.fillStyle = back;
  pen.fillRect(0, 0, 8, 8);
  pen.strokeStyle = line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift, 8);
    pen.lineTo(shift + 8, 0);
  }
  pen.stroke();
  return pen.createPattern(tile, 'repeat');
}
