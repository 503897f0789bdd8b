"""How well a system answers: the judges, predictions on disk, and the tables that derive from them."""
