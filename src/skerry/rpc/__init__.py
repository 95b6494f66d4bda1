"""How our processes talk: what is generic about it, no word of any protocol's content."""
