"""Base models: fetch, tokenise, pool, attention masks, LoRA."""
