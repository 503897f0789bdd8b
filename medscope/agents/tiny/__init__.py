"""The tiny profile: real classes, a frozen tokenizer, 1.7M parameters; everything trains on two CPU cores."""
