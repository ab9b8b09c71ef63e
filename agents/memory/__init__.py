"""What an agent remembers of a conversation, as values and pure functions: docs/context.md."""
