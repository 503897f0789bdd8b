"""GA-GRPO under verl 0.9.1: data, tools, agent loop, reward and trainer. All but `rows` run in verl's environment."""
