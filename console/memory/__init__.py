"""Memory where the history and the agents meet."""
