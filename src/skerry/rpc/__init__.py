"""How our processes talk: frames, links, a loop, hand-off."""
