"""Who answers: the protocol that every agent follows, the local policy, and the engines that generate its rollouts."""
