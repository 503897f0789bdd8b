"""The tiny profile: real classes, a frozen tokenizer, 1.5M parameters; everything trains on two CPU cores."""
