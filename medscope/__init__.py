"""MedScope: a vision-language model that thinks with clinical videos (independent implementation)."""

import logging

# On a CPU with bf16 it looks for an optional kernel on the Hub, which we do not use, and warns at every import.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
