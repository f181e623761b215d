"""The Memo policy: a transformer with summarization tokens, its banks and its training."""
