"""Export trained networks to files for other runtimes: rewritten for speed, self-describing, verified."""
