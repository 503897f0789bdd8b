"""The benchmark in lmms-eval: tasks for `--include_path`, and a model whose rollout is ours (docs/any_model.md).

lmms-eval has an environment of its own (`make lmms-env`) and is no dependency of the project. Its own route for tools
is not used: it evaluates what a model writes as code. Here a model's calls are parsed, bounded and recorded as ever.
"""
