"""Studies over seeds and variants."""
