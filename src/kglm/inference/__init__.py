"""What a finished run answers: heads, tails and relations for queries without a gold answer."""
