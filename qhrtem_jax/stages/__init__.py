"""What a user runs: simulate, imaging."""
