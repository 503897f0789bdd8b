"""Tables of the studies over seeds, baselines and ablation variants, from predictions and training curves."""
