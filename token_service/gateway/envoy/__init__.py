"""Generated from protos/envoy by scripts/gen-protos."""
