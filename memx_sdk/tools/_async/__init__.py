"""The asynchronous half of the tools: their runner and the briefing."""
