// The elements of the page. Everything that agents wrote is set as text, never as markup, and so that it cannot pass
// for something else: what is invisible or turns text around shows as an escape, and each text is isolated from those
// beside it (Unicode Standard Annex 9, section 3.1: a text must not change the order of its neighbours).

import { number } from './memory.js';

const hues = new Map();
const LONGEST_PREVIEW = 400;

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Controls, marks of format (among them all that turn text around), line separators, lone halves of a character, and
// whatever else is never drawn. Emoji and some scripts need joiners and variation selectors; in a name they would make
// two names look alike, as would the spaces that are not the usual one.
const HIDDEN_IN_TEXT = /(?![\u200c\u200d\ufe0e\ufe0f])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu;
const HIDDEN_IN_NAME = /(?! )[\p{Cc}\p{Cf}\p{Z}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu;
const PLAIN = /^[ -~]*$/;
// The blocks that Unicode sets aside for scripts written from right to left.
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const JSON_STRING = /("(?:[^"\\]|\\.)*"?)/s;

function escaped(character) {
  const code = character.codePointAt(0).toString(16).padStart(4, '0');
  return code.length > 4 ? `\\u{${code}}` : `\\u${code}`;
}

// The escape is marked, since an agent may have written the same characters itself.
function nodes(text, hidden) {
  if (PLAIN.test(text)) return [text];
  const made = [];
  let end = 0;
  for (const found of text.matchAll(hidden)) {
    made.push(text.slice(end, found.index), element('span', 'escape', escaped(found[0])));
    end = found.index + found[0].length;
  }
  return [...made, text.slice(end)];
}

// A key, a writer or a pattern.
export function name(text, className = '') {
  return element('bdi', className, ...nodes(text, HIDDEN_IN_NAME));
}

// What an agent wrote for people.
export function text(written, className = '') {
  return element('bdi', className, ...nodes(written, HIDDEN_IN_TEXT));
}

// The same where an element is out of place: in a tooltip. U+2068 and U+2069 isolate as <bdi> does.
function isolated(text) {
  return `\u2068${text.replace(HIDDEN_IN_NAME, escaped)}\u2069`;
}

// The text of a JSON value with each of its strings isolated: two strings of a script that is written from right to left
// would else change places across the comma between them.
function json(written) {
  const made = [];
  let plain = '';
  for (const part of written.split(JSON_STRING)) {
    // A large value may hold a hundred thousand strings; most need no element of their own.
    if (PLAIN.test(part) || (part[0] !== '"') || !(RIGHT_TO_LEFT.test(part) || part.search(HIDDEN_IN_TEXT) >= 0)) {
      plain += part;
    } else {
      made.push(plain, text(part));
      plain = '';
    }
  }
  return [...made, plain];
}

export function preview(value) {
  let written = JSON.stringify(value) ?? '';
  if (written.length > LONGEST_PREVIEW) {
    written = `${written.slice(0, LONGEST_PREVIEW).replace(/[\ud800-\udbff]$/, '')}…`;
  }
  return element('span', 'value', ...json(written));
}

export function pretty(value) {
  return json(JSON.stringify(value, null, 2) ?? '');
}

// The golden angle keeps the colours of any number of writers apart.
export function writer(who, className = 'writer') {
  const made = element('span', className);
  if (who) {
    made.append(name(who));
    if (!hues.has(who)) hues.set(who, (165 + hues.size * 137.5) % 360);
    made.style.setProperty('--hue', `hsl(${hues.get(who)} 65% 55%)`);
  }
  return made;
}

export function personItem({ writer: who, since, watching = [] }) {
  const made = writer(who, 'writer person');
  const listening = watching.length ? `listens to ${watching.map(isolated).join(', ')}` : 'reads or writes';
  made.title = `${listening}, since ${new Date(number(since) * 1000).toLocaleTimeString()}`;
  return made;
}

export function clock(ts) {
  const made = element('time', '', new Date(number(ts) * 1000).toLocaleTimeString());
  made.dateTime = new Date(number(ts) * 1000).toISOString();
  return made;
}

export function keyItem(entry) {
  const button = element('button', 'item',
    title(entry.key, 'set'),
    clock(entry.ts),
    preview(entry.value),
    writer(entry.writer));
  button.type = 'button';
  const made = element('li', '', button);
  made.dataset.key = entry.key;
  return made;
}

export function changeItem(change) {
  const isSchema = change.event === 'schema';
  const action = isSchema ? 'schema' : change.action;
  const held = isSchema ? change.schema : change.value;
  const button = element('button', 'item', title(change.key, action, change), clock(change.ts),
    action === 'set' || (isSchema && held) ? preview(held) : element('span', 'value'),
    writer(change.writer));
  button.type = 'button';
  if (change.reason) button.append(text(change.reason, 'reason'));
  const made = element('li', 'fresh', button);
  made.dataset.key = change.key;
  return made;
}

export function historyItem(change) {
  const row = element('div', 'item', title(`revision ${change.revision}`, change.action, change), clock(change.ts),
    change.action === 'set' ? heldThen(change) : element('span', 'value'), writer(change.writer));
  if (change.reason) row.append(text(change.reason, 'reason'));
  return element('li', '', row);
}

// A long name gives way; what happened to it stays in sight.
function title(what, action, change) {
  const made = element('span', 'title', name(what, 'name'));
  if (action !== 'set') made.append(element('span', `action ${action}`, actionWord(change)));
  return made;
}

function heldThen(change) {
  return 'value' in change ? preview(change.value) : element('span', 'value', '(value not kept)');
}

function actionWord(change) {
  if (change.event === 'schema') return change.schema === null ? 'schema removed' : 'schema';
  return { delete: 'deleted', expire: 'expired' }[change.action] ?? change.action;
}
