"""Tables of the studies over seeds, baselines and ablation variants, from scores and training curves."""
