"""HTTP and WebSocket endpoints: parse, authorise, call the domain, answer."""
