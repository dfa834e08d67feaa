"""What a model is: its layers and the passes through them."""
