"""From a run to stages for ONNX Runtime: traced, fused, cut at layers, and quantised."""
