"""What a vector is: registers, tiles, products, activations and sums."""
