"""From a trained network to a file that another runtime runs: rewritten for speed, carrying what it is, verified."""
