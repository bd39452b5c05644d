// The elements of the page. Everything that agents wrote is set as text, never as markup.

import { number } from './memory.js';

const hues = new Map();
const LONGEST_PREVIEW = 400;

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function preview(value) {
  const text = JSON.stringify(value) ?? '';
  return text.length > LONGEST_PREVIEW ? `${text.slice(0, LONGEST_PREVIEW)}…` : text;
}

export function pretty(value) {
  return JSON.stringify(value, null, 2) ?? '';
}

// The golden angle keeps the colours of any number of writers apart.
export function writer(name, className = 'writer') {
  const made = element('span', className, name);
  if (name) {
    if (!hues.has(name)) hues.set(name, (165 + hues.size * 137.5) % 360);
    made.style.setProperty('--hue', `hsl(${hues.get(name)} 65% 55%)`);
  }
  return made;
}

export function personItem({ writer: name, since, watching = [] }) {
  const made = writer(name, 'writer person');
  const listening = watching.length ? `listens to ${watching.join(', ')}` : 'reads or writes';
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
    element('span', 'value', preview(entry.value)),
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
    element('span', 'value', action === 'set' || (isSchema && held) ? preview(held) : ''),
    writer(change.writer));
  button.type = 'button';
  if (change.reason) button.append(element('span', 'reason', change.reason));
  const made = element('li', 'fresh', button);
  made.dataset.key = change.key;
  return made;
}

export function historyItem(change) {
  const row = element('div', 'item', title(`revision ${change.revision}`, change.action, change), clock(change.ts),
    element('span', 'value', change.action === 'set' ? heldThen(change) : ''), writer(change.writer));
  if (change.reason) row.append(element('span', 'reason', change.reason));
  return element('li', '', row);
}

// A long name gives way; what happened to it stays in sight.
function title(name, action, change) {
  const made = element('span', 'title', element('span', 'name', name));
  if (action !== 'set') made.append(element('span', `action ${action}`, actionWord(change)));
  return made;
}

function heldThen(change) {
  return 'value' in change ? preview(change.value) : '(value not kept)';
}

function actionWord(change) {
  if (change.event === 'schema') return change.schema === null ? 'schema removed' : 'schema';
  return { delete: 'deleted', expire: 'expired' }[change.action] ?? change.action;
}
