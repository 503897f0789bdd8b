"""Who answers: the local policy, its rollouts, and the protocol that every agent follows."""
