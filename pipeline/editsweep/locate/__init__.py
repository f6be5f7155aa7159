"""What the editors share that locate a fact, search for a value and solve for a weight change."""
