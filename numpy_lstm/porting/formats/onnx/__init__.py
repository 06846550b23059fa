"""ONNX models: LSTM nodes found in graphs, and models written."""
