"""ONNX: networks written from a family's weights, without a framework, and computed by ONNX Runtime."""
