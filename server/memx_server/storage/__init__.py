"""Where entries and the log are kept: one protocol, two stores."""
