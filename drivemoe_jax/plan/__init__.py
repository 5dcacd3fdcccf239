"""What a run would need on a TPU slice that need not be there."""
