"""The containers that model files come in: protobuf by a table, flatbuffers, plain binary."""
