"""The real teacher: a vision model behind any OpenAI-compatible endpoint captions, asks, verifies and acts.

Every step is a class with `name`, `key(item)` and `async __call__(item)`, which returns a record or a `Rejected`:
`scenes`, `captions`, `questions`, `checks`, `verification`, `trajectories`. `build` runs them in this order.
"""
