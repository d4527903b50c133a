"""What gists buy, as pages: from the records of `gistbench speed savings` and `speed lengths`."""
