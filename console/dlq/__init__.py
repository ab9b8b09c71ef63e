"""Dead letters for people: found, shown, and sent back."""
