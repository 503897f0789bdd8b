"""MedScope: a vision-language model that thinks with clinical videos (independent implementation)."""
