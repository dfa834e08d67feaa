"""What a model is: its passes, its parameter vectors, and weight layers."""
