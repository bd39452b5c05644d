// The client of the page: it reads the present entries, then follows the change log from that moment on.

const PAGE = 1000;
const MOST_KEYS = 5000;
const LONGEST_PAUSE = 10_000;

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = answer.error;
  }
}

// A number that JavaScript would round keeps its digits where the browser can (JSON.rawJSON).
export function parse(text) {
  return JSON.parse(text, (_name, value, context) =>
    typeof value === 'number' && context?.source !== undefined && String(value) !== context.source && JSON.rawJSON
      ? JSON.rawJSON(context.source) : value);
}

export const number = (value) => Number(value?.rawJSON ?? value);

export class Memory {
  constructor(apiKey) {
    this.headers = { 'x-api-key': apiKey, 'x-memx-agent': 'dashboard' };
    this.ended = new AbortController();
  }

  async get(path, query = {}) {
    return this.#answer(await fetch(`.${path}?${new URLSearchParams(query)}`, {
      headers: this.headers, signal: this.ended.signal,
    }));
  }

  close() { this.ended.abort(); }

  // Calls on.state(entries, truncated), then on.change(change) for ever; on.status('live' | 'waiting').
  async follow(on) {
    let cursor = null;
    for (let failures = 0; !this.ended.signal.aborted;) {
      try {
        if (cursor === null) {
          cursor = await this.#position();
          on.state(...await this.#entries());
        }
        await this.#stream(cursor, (change, position) => {
          failures = 0;
          if (change) on.change(change);
          cursor = position || cursor;
        }, () => on.status('live'));
      } catch (error) {
        if (this.ended.signal.aborted) return;
        if (error instanceof Refused) {
          if (error.status === 401 || error.status === 403) throw error;
          // The log no longer reaches back to the cursor, or lost it: begin again from the state.
          if (error.status === 410 || error.status === 409) { cursor = null; failures = 0; continue; }
        }
      }
      on.status('waiting');
      failures += 1;
      const pause = Math.min(LONGEST_PAUSE, 250 * 2 ** failures) * (0.5 + Math.random() / 2);
      await new Promise((wake) => setTimeout(wake, pause));
    }
  }

  async #position() {
    const answer = await fetch('./mget', {
      method: 'POST',
      headers: { ...this.headers, 'content-type': 'application/json' },
      body: '{"keys":[]}',
      signal: this.ended.signal,
    });
    return (await this.#answer(answer)).cursor;
  }

  async #entries() {
    const entries = [];
    let next = '';
    while (next !== null && entries.length < MOST_KEYS) {
      const query = { pattern: '*', values: 'true', limit: PAGE, ...(next && { cursor: next }) };
      const page = await this.get('/keys', query);
      entries.push(...page.entries);
      next = page.next;
    }
    return [entries, next !== null];
  }

  // Server-Sent Events over fetch, since EventSource can send no header.
  async #stream(since, receive, opened) {
    const answer = await fetch(`./changes?${new URLSearchParams({ pattern: '*', event: 'all', since })}`, {
      headers: { ...this.headers, accept: 'text/event-stream' }, signal: this.ended.signal,
    });
    if (!answer.ok) await this.#answer(answer);
    opened();
    const lines = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(lineByLine());
    let message = { id: '', event: '', data: [] };
    for await (const line of lines) {
      if (line === '') {
        dispatch(message, receive);
        message = { id: '', event: '', data: [] };
        continue;
      }
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === 'data') message.data.push(text);
      else if (field === 'id' || field === 'event') message[field] = text;
    }
  }

  async #answer(answer) {
    const text = await answer.text();
    let body;
    try { body = parse(text); } catch { body = {}; }
    if (!answer.ok) throw new Refused(answer.status, body ?? {});
    return body;
  }
}

function dispatch(message, receive) {
  if (message.data.length === 0) return;
  const body = parse(message.data.join('\n'));
  const kind = body.event ?? message.event;
  if (kind === 'reset') throw new Refused(410, body);
  receive(kind === 'value' || kind === 'schema' ? body : null, message.id || body.cursor);
}

function lineByLine() {
  let rest = '';
  return new TransformStream({
    transform(chunk, controller) {
      const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) controller.enqueue(line);
    },
  });
}
