// The page: entering and leaving with an API key, the lists of keys and changes, and the handlers of its controls.

import { Memory, number } from './memory.js';
import { changeItem, historyItem, keyItem, name, personItem, pretty, text } from './view.js';

const SLOT = 'memx-api-key';
const MOST_CHANGES = 300;
const PRESENCE_EVERY = 10_000;
const PRESENCE_PAUSE = 1_000;

const $ = (id) => document.getElementById(id);
const page = {
  memory: null, entries: new Map(), items: new Map(), seen: 0, paused: false, held: [], truncated: false,
  present: new Set(), newcomer: () => {},
};

async function enter(apiKey) {
  const memory = new Memory(apiKey);
  try {
    const me = await memory.get('/whoami');
    sessionStorage.setItem(SLOT, apiKey);
    page.memory = memory;
    show(me);
    memory.follow({ state, change, status }).catch((error) => { if (page.memory === memory) leave(error); });
    presence(memory);
  } catch (error) {
    leave(error);
  }
}

function leave(error) {
  page.memory?.close();
  page.memory = null;
  sessionStorage.removeItem(SLOT);
  status('off');
  $('memory').hidden = $('leave').hidden = true;
  $('where').textContent = '';
  $('enter').hidden = false;
  $('refusal').hidden = !error;
  $('refusal').replaceChildren(...(error ? ['That did not work: ', text(error.message)] : []));
  if ($('detail').open) $('detail').close();
  $('key').focus();
}

function show(me) {
  $('enter').hidden = true;
  $('memory').hidden = $('leave').hidden = false;
  $('key').value = '';
  $('where').replaceChildren('space ', name(me.space), ' · as ', name(me.principal), ` · memX ${me.server.version}`);
  $('feed').replaceChildren();
  page.seen = 0;
  page.held = [];
  count();
}

function status(state) {
  $('state').dataset.state = state;
  $('state').textContent = { live: 'live', waiting: 'connecting again …', off: 'not connected' }[state];
}

function state(entries, truncated) {
  page.truncated = truncated;
  page.entries = new Map(entries.map((entry) => [entry.key, entry]));
  page.items = new Map(entries.map((entry) => [entry.key, keyItem(entry)]));
  $('keys').replaceChildren(...page.items.values());
  filter();
}

function change(change) {
  if (change.event === 'value') keep(change);
  page.seen += 1;
  if (change.writer && !page.present.has(change.writer)) page.newcomer();
  if (page.paused) page.held = [...page.held.slice(1 - MOST_CHANGES), change];
  else showChange(change);
  count();
}

function showChange(change) {
  $('feed').prepend(changeItem(change));
  while ($('feed').childElementCount > MOST_CHANGES) $('feed').lastElementChild.remove();
}

function keep(change) {
  const { key } = change;
  const known = page.entries.get(key);
  if (known && number(known.revision) >= number(change.revision)) return;
  const old = page.items.get(key);
  if (change.action !== 'set') {
    old?.remove();
    page.entries.delete(key);
    page.items.delete(key);
    return;
  }
  // A change whose value the log does not keep still says when and by whom.
  const value = 'value' in change ? change.value : '(not kept in the log)';
  const item = keyItem({ ...change, value });
  item.classList.add('fresh');
  item.hidden = !matches(key);
  page.entries.set(key, { ...change, value });
  page.items.set(key, item);
  if (old) old.replaceWith(item);
  else $('keys').insertBefore(item, following(key));
}

function following(key) {
  const items = $('keys').children;
  let low = 0;
  for (let high = items.length; low < high;) {
    const middle = (low + high) >> 1;
    if (items[middle].dataset.key < key) low = middle + 1;
    else high = middle;
  }
  return items[low] ?? null;
}

function matches(key) {
  const wanted = $('filter').value.trim();
  if (!wanted) return true;
  if (!/[*?]/.test(wanted)) return key.includes(wanted);
  const escaped = wanted.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${escaped}$`, 's').test(key);
}

function filter() {
  for (const [key, item] of page.items) item.hidden = !matches(key);
  count();
}

function count() {
  $('count').textContent = `${page.entries.size}${page.truncated ? '+' : ''}`;
  $('seen').textContent = page.held.length ? `${page.seen} (${page.held.length} held back)` : `${page.seen || ''}`;
}

function sleep(milliseconds) {
  return new Promise((wake) => { setTimeout(wake, milliseconds); });
}

async function presence(memory) {
  while (page.memory === memory) {
    try {
      const { present } = await memory.get('/presence');
      page.present = new Set(present.map((person) => person.writer));
      $('people').replaceChildren(...present.map(personItem));
    } catch (error) {
      if (error.status === 404) return;
    }
    const newcomer = new Promise((wake) => { page.newcomer = wake; });
    await Promise.race([sleep(PRESENCE_EVERY), newcomer]);
    await sleep(PRESENCE_PAUSE);
  }
}

async function open(key) {
  const entry = page.entries.get(key);
  $('detail-key').replaceChildren(name(key));
  $('detail-value').replaceChildren(...(entry ? pretty(entry.value) : ['There is no such key now.']));
  $('detail-facts').replaceChildren(...(entry ? facts(entry) : []));
  $('detail-history').replaceChildren();
  if (!$('detail').open) $('detail').showModal();
  try {
    const { changes } = await page.memory.get('/history', { key, limit: 20 });
    $('detail-history').replaceChildren(...changes.map(historyItem));
  } catch (error) {
    $('detail-history').replaceChildren(text(error.message));
  }
}

function facts(entry) {
  const parts = [`revision ${entry.revision} · version ${entry.version} · by `, name(entry.writer ?? '')];
  if (entry.expires_at) parts.push(` · expires ${new Date(number(entry.expires_at) * 1000).toLocaleString()}`);
  return parts;
}

function pause() {
  page.paused = !page.paused;
  $('pause').setAttribute('aria-pressed', page.paused);
  $('pause').textContent = page.paused ? 'Go on' : 'Pause';
  if (!page.paused) page.held.splice(0).forEach(showChange);
  count();
}

function opened(event) {
  const key = event.target.closest('li')?.dataset.key;
  if (key !== undefined) open(key);
}

$('enter').addEventListener('submit', (event) => { event.preventDefault(); enter($('key').value.trim()); });
$('leave').addEventListener('click', () => leave());
$('filter').addEventListener('input', filter);
$('pause').addEventListener('click', pause);
$('close').addEventListener('click', () => $('detail').close());
$('keys').addEventListener('click', opened);
$('feed').addEventListener('click', opened);

// A page that is put aside must not hold on to its stream: a browser opens few of them to one server.
addEventListener('pagehide', () => page.memory?.close());
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });

const known = sessionStorage.getItem(SLOT);
if (known) enter(known);
