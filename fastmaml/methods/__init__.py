"""The methods: how a meta-gradient is computed, one file for each, and which one is asked."""
