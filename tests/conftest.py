"""What every test shares: property tests that draw the same examples on every run."""

from hypothesis import settings

settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, max_examples=20, print_blob=False
)
settings.load_profile("fixed")
