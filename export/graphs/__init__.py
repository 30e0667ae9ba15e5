"""A PyTorch model as an ONNX graph, and exact rewrites of it."""
