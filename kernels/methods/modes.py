"""What a call of a method is for; each mode includes the work of the one before."""

VALUE, GRADIENT, RATES = 0, 1, 2
