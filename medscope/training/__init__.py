"""SFT and GA-GRPO."""
