"""Who writes trajectories."""
