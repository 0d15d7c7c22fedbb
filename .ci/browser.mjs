// Drives a browser over a report, and checks what a reader relies on. Started by `.ci/browser`.
//
// It speaks the DevTools protocol over the pipe that the browser offers, so it needs nothing but node. Each
// check prints a line with what was measured; the first that fails ends it. The browser is ended in any case.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [program, report, pictures] = process.argv.slice(2);
const CURSOR_MOST = 50;
const DRAWN_MOST = 50;
const PATIENCE = 60_000;
const SIZE = { width: 1400, height: 900 };

const profile = mkdtempSync(join(tmpdir(), 'report-browser-'));
const browser = spawn(
  program,
  [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--remote-debugging-pipe', `--user-data-dir=${profile}`, 'about:blank',
  ],
  { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], detached: true },
);

/** Ends the browser with all its processes, and removes its profile. */
function endBrowser() {
  try {
    process.kill(-browser.pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
  rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}

process.on('exit', endBrowser);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));
browser.on('error', (error) => fail(`the browser does not start: ${error.message}`));
browser.on('exit', (code) => fail(`the browser ended by itself (${code})`));
browser.stdio[3].on('error', () => {});
const overdue = setTimeout(() => fail(`not done after ${PATIENCE / 1000} s`), PATIENCE);

function fail(sentence) {
  console.error(`FAILED: ${sentence}`);
  process.exit(1);
}

// The protocol: JSON with a zero byte after each message, answers by number.

const waiting = new Map();
const requests = [];
let session;
let number = 0;
let received = '';
browser.stdio[4].setEncoding('utf8').on('data', (some) => {
  received += some;
  const messages = received.split('\0');
  received = messages.pop();
  messages.forEach((message) => take(JSON.parse(message)));
});

function take(message) {
  if (message.method === 'Network.requestWillBeSent') requests.push(message.params.request.url);
  if (message.method === 'Runtime.exceptionThrown') {
    const { exception, text } = message.params.exceptionDetails;
    console.error(`an error on the page: ${exception?.description ?? text}`);
  }
  const answer = waiting.get(message.id);
  if (!answer) return;
  waiting.delete(message.id);
  if (message.error) answer.reject(new Error(message.error.message));
  else answer.resolve(message.result);
}

function ask(method, params = {}) {
  number += 1;
  browser.stdio[3].write(`${JSON.stringify({ id: number, method, params, sessionId: session })}\0`);
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}

// What can be done on the page.

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The value of an expression on the page. */
async function valueOf(expression) {
  const wishes = { expression, returnByValue: true, awaitPromise: true };
  const { result, exceptionDetails } = await ask('Runtime.evaluate', wishes);
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
  return result.value;
}

/** The facts that the page tells, after the next two frames. */
async function facts() {
  const frames = 'new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))';
  return valueOf(`${frames}.then(() => ({ ...document.documentElement.dataset }))`);
}

async function press(key, text = key.length === 1 ? key : undefined) {
  await ask('Input.dispatchKeyEvent', { type: 'keyDown', key, text });
  await ask('Input.dispatchKeyEvent', { type: 'keyUp', key });
  return facts();
}

/** Shows what a fragment asks for, in the page that is loaded. */
async function goTo(fragment) {
  await valueOf(`location.hash = ${JSON.stringify(fragment)}`);
  await pause(50);
  return facts();
}

async function load(fragment = '') {
  await valueOf('window.isBefore = true');
  await ask('Page.navigate', { url: `${pathToFileURL(report)}${fragment}` });
  for (let tries = 0; tries < 300; tries += 1) {
    await pause(100);
    const isThere = await valueOf('!window.isBefore && document.readyState === "complete"').catch(() => false);
    if (isThere) return facts();
  }
  throw new Error('the page does not load');
}

async function takePicture(name) {
  await facts();
  const { data } = await ask('Page.captureScreenshot', { format: 'png' });
  writeFileSync(join(pictures, `${name}.png`), Buffer.from(data, 'base64'));
}

async function useTheme(theme) {
  await ask('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: theme }] });
}

function check(holds, sentence) {
  if (!holds) fail(sentence);
  console.log(`ok: ${sentence}`);
}

// The checks.

async function checkLoading() {
  const begun = performance.now();
  const seen = await load();
  const took = Math.round(performance.now() - begun);
  const notice = await valueOf('document.getElementById("notice-text").textContent');
  check(seen.ready === 'true', `the page is ready after ${took} ms${notice ? ` (it says: ${notice})` : ''}`);
  check(seen.errors === '0', `${seen.errors} errors while loading`);
  check(Number(seen.events) > 0, `${seen.events} events and ${seen.messages} messages`);
  const outside = requests.filter((url) => !/^(file|data|about):/.test(url));
  check(outside.length === 0, `${outside.length} resources from elsewhere ${outside.join(' ')}`);
  const times = [];
  for (let i = 0; i < 9; i += 1) times.push(Number((await press('0')).drawn));
  const median = times.sort((a, b) => a - b)[4];
  const measured = `${median} ms, the median of 9 (at most ${DRAWN_MOST}); at first in ${seen.drawn} ms`;
  check(median < DRAWN_MOST, `the whole run is drawn in ${measured}`);
}

async function checkCursor(end) {
  const at = Math.floor(end / 2);
  const linked = await goTo(`#at=${at}&lane=0`);
  check(linked.at === String(at) && linked.lane === '0', `a link moves the cursor to ${linked.at} µs in lane ${linked.lane}`);
  let slowest = 0;
  let before = linked;
  for (let i = 0; i < 20; i += 1) {
    const now = await press(i < 15 ? ']' : '[');
    must(now.event !== before.event, `key number ${i} moves the cursor from event ${before.event} to ${now.event}`);
    slowest = Math.max(slowest, Number(now.cursor));
    before = now;
  }
  check(true, `20 keys move it from event to event, the last to event ${before.event}`);
  const lane = await press('ArrowDown');
  check(lane.lane === '1', `the arrow down chooses lane ${lane.lane}`);
  slowest = Math.max(slowest, Number(lane.cursor));
  const clicked = await click(0.4, 0.5);
  check(clicked.at !== lane.at, `a click moves it to ${clicked.at} µs`);
  slowest = Math.max(slowest, Number(clicked.cursor));
  check(slowest < CURSOR_MOST, `the slowest move took ${slowest} ms (at most ${CURSOR_MOST})`);
}

/** A check that prints nothing when it holds. */
function must(holds, sentence) {
  if (!holds) fail(sentence);
}

async function click(right, down) {
  const box = await valueOf('document.getElementById("canvas").getBoundingClientRect().toJSON()');
  const place = { x: box.left + box.width * right, y: box.top + box.height * down, button: 'left', clickCount: 1 };
  await ask('Input.dispatchMouseEvent', { type: 'mousePressed', ...place });
  await ask('Input.dispatchMouseEvent', { type: 'mouseReleased', ...place });
  return facts();
}

async function checkView() {
  const line = 'document.getElementById("drawn-line").textContent';
  const whole = await valueOf(line);
  for (let i = 0; i < 6; i += 1) await press('+');
  const near = await valueOf(line);
  check(near !== whole, `zoom changes the view: "${near}"`);
  await press('0');
  check(true, `and back to all: "${await valueOf(line)}"`);
}

async function checkPast(end) {
  const at = Math.floor(end / 2);
  const all = await goTo(`#at=${at}&lane=0`);
  const some = await goTo(`#at=${at}&lane=0&past=1`);
  check(Number(some.shown) > 0 && Number(some.shown) < Number(all.shown), `the causal past has ${some.shown} of ${all.shown} events`);
  const back = await press('p');
  check(back.shown === all.shown, `the key p shows all ${back.shown} again`);
}

async function checkSearch() {
  const text = await valueOf('document.getElementById("event-text").textContent');
  const word = (text.match(/[A-Za-z]{4,}/) ?? ['node'])[0];
  await press('/');
  must(await valueOf('document.activeElement.id === "search"'), 'the slash focuses the search');
  await ask('Input.insertText', { text: word });
  await pause(400);
  const found = await facts();
  check(Number(found.matches) > 0, `"${word}" is found ${found.matches} times`);
  const first = await press('Enter', '\r');
  const second = await press('Enter', '\r');
  check(first.event !== second.event || found.matches === '1', `Enter goes to event ${first.event}, then ${second.event}`);
  const nothing = await goTo('#q=there-is-no-such-text');
  check(nothing.matches === '0', `what is not there is found ${nothing.matches} times`);
}

async function checkKeys() {
  await valueOf('document.getElementById("canvas").focus()');
  await press('?');
  check(await valueOf('document.getElementById("keys").open'), 'the question mark shows the keys');
  await takePicture('keys');
  await valueOf('document.getElementById("keys").close()');
}

/** Pictures of the whole run, of the moment that matters most, and of its past; light and dark. */
async function takePictures(end) {
  for (const theme of ['light', 'dark']) {
    await useTheme(theme);
    await load();
    await takePicture(`whole-${theme}`);
    await press('v');
    const wrong = await valueOf('!document.getElementById("violation").disabled');
    const [at, from, to] = [0.5, 0.49, 0.51].map((share) => Math.floor(end * share));
    if (!wrong) await goTo(`#at=${at}&lane=0&from=${from}&to=${to}`);
    await takePicture(`moment-${theme}`);
    await press('p');
    await takePicture(`past-${theme}`);
  }
  const last = await facts();
  check(last.errors === '0', `${last.errors} errors in the end; the pictures are in ${pictures}`);
}

async function main() {
  readFileSync(report);
  const { targetId } = await ask('Target.createTarget', { url: 'about:blank' });
  session = (await ask('Target.attachToTarget', { targetId, flatten: true })).sessionId;
  for (const domain of ['Page', 'Runtime', 'Network']) await ask(`${domain}.enable`);
  await ask('Emulation.setDeviceMetricsOverride', { ...SIZE, deviceScaleFactor: 1, mobile: false });
  await useTheme('light');
  await checkLoading();
  const end = await valueOf('app.run.end');
  await checkCursor(end);
  await checkView();
  await checkPast(end);
  await checkSearch();
  await checkKeys();
  await takePictures(end);
  clearTimeout(overdue);
}

try {
  await main();
  console.log('all checks of the report hold');
  process.exit(0);
} catch (error) {
  fail(error.message);
}
