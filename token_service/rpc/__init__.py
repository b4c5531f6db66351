"""The gRPC edge: convert, call, convert. Protobuf messages go no further than this."""
