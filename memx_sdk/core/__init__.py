"""The client without its sockets: what to send, what an answer means, when to try again."""
