"""Does the port trade like the original? Two results of a run, compared within written gates."""
