"""What a model is like beside its ranks: anisotropy, similarity, perplexity, MMLU, KGQA."""
