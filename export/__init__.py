"""PyTorch cross-encoder to model bundle: ONNX export, graph rewrites, quantization, parity."""
