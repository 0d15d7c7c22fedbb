'use strict';
// The start: reads the run, builds the page around it, and shows what the address asks for.

const SEARCH_AFTER = 120;

/** Fills the header with what is known about the run. */
function fillHeader(run) {
  document.title = run.verdict ? `${run.title}: ${run.verdict.rule}` : run.title;
  say(part('title'), run.title);
  say(part('about'), run.about.join(' · '));
  part('about').title = run.about.join('\n');
  say(part('command'), run.command);
  part('command').hidden = run.command === '';
  part('copy').hidden = run.command === '';
  part('verdict').classList.toggle('wrong', run.verdict !== null);
  say(part('verdict-rule'), run.verdict ? run.verdict.rule : 'No violation');
  say(part('verdict-text'), run.verdict ? run.verdict.text : 'All rules held to the end of the run.');
  part('violation').disabled = !run.verdict || run.verdict.event === NONE;
  buildLegend();
}

/** The roles with their colours and letters. */
function buildLegend() {
  ROLES.forEach((role, number) => {
    const item = make('span', 'legend-item');
    const sign = make('span', 'role-sign', ROLE_LETTERS[number]);
    sign.dataset.role = String(number);
    item.append(sign, role);
    part('legend').append(item);
  });
  for (const [className, text] of [['area', 'applied'], ['thin', 'commit'], ['thick', 'high watermark']]) {
    const item = make('span', 'legend-item');
    item.append(make('span', `chart-sign ${className}`), text);
    part('legend').append(item);
  }
}

function startButtons() {
  const actions = {
    past: togglePast,
    violation: goToViolation,
    nearer: () => zoom(0.6),
    farther: () => zoom(1 / 0.6),
    fit: showAll,
    help: showKeys,
    copy: copyCommand,
    'found-next': () => goToMatch(true),
    'found-previous': () => goToMatch(false),
    'nearby-all': toggleAllLanes,
    'past-here': () => setPast(app.cursor.event),
  };
  for (const [id, act] of Object.entries(actions)) part(id).addEventListener('click', () => act());
  let timer = 0;
  part('search').addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => setSearch(part('search').value), SEARCH_AFTER);
  });
}

/** Copies the command; where the browser does not allow that, selects it. */
async function copyCommand() {
  try {
    await navigator.clipboard.writeText(app.run.command);
    say(part('copy'), 'Copied');
    setTimeout(() => say(part('copy'), 'Copy'), 1500);
  } catch {
    getSelection().selectAllChildren(part('command'));
  }
}

/** Fits everything to the size of the window. */
function fitWindow() {
  resizeCanvas(app);
  layOut(app);
  placeLanes(app);
  buildNearby();
  updateNearby(app);
  drawNow(app);
}

function start() {
  startTheme(() => {
    if (app.run) redraw();
  });
  let run;
  try {
    run = readRun(part('run').textContent);
  } catch (error) {
    giveUp(error.message);
    return;
  }
  facts.events = String(run.count);
  facts.messages = String(run.messages.count);
  if (run.count === 0) {
    giveUp(`There is nothing to show: ${run.title} has no events.`);
    facts.ready = 'true';
    return;
  }
  stackFaults(run);
  app.run = run;
  app.flights = orderMessages(run);
  showWindow(run);
  facts.ready = 'true';
}

function showWindow(run) {
  fillHeader(run);
  buildLanes(app);
  readStretch(null, null);
  fitWindow();
  readFragment();
  startButtons();
  startKeys();
  startPointer();
  part('board').addEventListener('scroll', () => {
    app.view.scroll = part('board').scrollTop;
    redraw();
  });
  // In a frame of its own, for fitting the lanes may change the size that is observed.
  new ResizeObserver(() => requestAnimationFrame(fitWindow)).observe(part('board'));
  window.addEventListener('hashchange', readFragment);
  drawNow(app);
}

start();
