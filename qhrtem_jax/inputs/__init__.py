"""What a run reads and checks before it computes: settings, image, instrument, specimen, parameters."""
