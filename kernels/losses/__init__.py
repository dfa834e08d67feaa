"""What a loss is: one file for each kind, and how methods reach it."""
