"""Everything that touches the inside of torch and transformers models."""
