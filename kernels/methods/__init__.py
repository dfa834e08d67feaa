"""What a method is: one or more files each, and what they share."""
