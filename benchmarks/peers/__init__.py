"""What others do today: TransformerLens' own functions, and plain hooks on the transformers model."""
