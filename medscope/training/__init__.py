"""SFT and GA-GRPO on transformers' Trainer: examples, rollouts to losses, resume, several processes."""
