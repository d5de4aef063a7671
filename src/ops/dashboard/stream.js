// The stream of snapshots, read with fetch: an EventSource cannot send the token that a sidecar with client_tokens asks for.

/** The data of each whole event in `text`, and what is left of it. */
function cut(text) {
  const parts = text.split('\n\n');
  const rest = parts.pop();
  const data = part => part.split('\n').filter(line => line.startsWith('data: ')).map(line => line.slice(6)).join('\n');
  return [parts.map(data).filter(Boolean), rest];
}

/**
 * Reads events until the stream ends or is closed. `ended` gets the status of an answer that is not a stream, else 0.
 * Returns a function that closes it.
 */
export function read(url, headers, { opened, event, ended }) {
  const closing = new AbortController();
  (async () => {
    let status = 0;
    try {
      const response = await fetch(url, { headers, cache: 'no-store', signal: closing.signal });
      if (!response.ok) status = response.status;
      else {
        opened();
        const decoder = new TextDecoder();
        let text = '';
        for (const reader = response.body.getReader(); ;) {
          const { done, value } = await reader.read();
          if (done) break;
          const [events, rest] = cut(text + decoder.decode(value, { stream: true }));
          text = rest;
          events.forEach(event);
        }
      }
    } catch { /* it broke: the caller comes back */ }
    if (!closing.signal.aborted) ended(status);
  })();
  return () => closing.abort();
}
