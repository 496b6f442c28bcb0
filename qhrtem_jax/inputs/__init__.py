"""What a run reads and checks before it computes."""
