"""Windows of pairs through tokenizer and engine: batched by length, overlapped, in order."""
