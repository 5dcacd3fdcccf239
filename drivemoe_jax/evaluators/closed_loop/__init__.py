"""Closed loop in the embedded world: who drives, what is kept, what it says."""
