'use strict';
// The page itself: its elements, the facts it tells to whoever watches it from outside, how it says that
// something is wrong, and how it writes numbers and times.
//
// The facts stand in the data attributes of the root element. Errors are counted from the first line on.

const facts = document.documentElement.dataset;
facts.errors = '0';
window.addEventListener('error', countError);
window.addEventListener('unhandledrejection', countError);

function countError() {
  facts.errors = String(Number(facts.errors) + 1);
}

/** The element with this id. */
function part(id) {
  return document.getElementById(id);
}

/** A new element with a class and a text; the text is never read as markup. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets a text only if it is another one, for a text that stays the same costs no layout. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a sentence instead of the report. */
function giveUp(sentence) {
  part('report').hidden = true;
  part('notice').hidden = false;
  part('notice-text').textContent = sentence;
  facts.ready = 'false';
}

const numberFormat = new Intl.NumberFormat('en-US');

/** A number with its thousands apart. */
function inDigits(number) {
  return numberFormat.format(number);
}

/** A number and the thing it counts. */
function counted(number, one, many) {
  return `${inDigits(number)} ${number === 1 ? one : many}`;
}

/** A moment, down to the microsecond. */
function inSeconds(microseconds) {
  return `${(microseconds / 1e6).toFixed(6)} s`;
}

/** A length of time, in the unit that suits it. */
function asSpan(microseconds) {
  const length = Math.abs(microseconds);
  if (length < 1000) return `${Math.round(length)} µs`;
  if (length < 1e6) return `${Number((length / 1000).toPrecision(4))} ms`;
  return `${Number((length / 1e6).toPrecision(5))} s`;
}

function limited(value, least, most) {
  return Math.max(least, Math.min(most, value));
}
